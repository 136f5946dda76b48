//! Counters of a channel.

use std::time::Duration;

/// What a channel has done since it was made. Counters only grow; the last five are as of now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Stream messages sent for the first time.
    pub messages_sent: u64,
    /// Payload bytes of those.
    pub bytes_sent: u64,
    /// Stream messages sent again.
    pub retransmissions: u64,
    /// Stream messages received in order, and bytes of their payloads.
    pub messages_received: u64,
    /// Payload bytes received in order.
    pub bytes_received: u64,
    /// Stream messages received again, which were acknowledged again.
    pub duplicates_received: u64,
    /// Stream messages that arrived ahead of their turn.
    pub out_of_order_received: u64,
    /// Stream messages that were not acknowledged because there was no room or no taker for them.
    pub refused: u64,
    /// Acknowledgements sent.
    pub acknowledgements_sent: u64,
    /// Acknowledgements received, useful or not.
    pub acknowledgements_received: u64,
    /// Frames that were not messages.
    pub undecodable_frames: u64,
    /// Messages and payloads of unknown types.
    pub unknown_messages: u64,
    /// Times the gateway paused this side.
    pub pauses: u64,
    /// Connections after the first.
    pub resumes: u64,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Bytes of messages that may be unacknowledged.
    pub window: usize,
    /// Bytes of messages that are unacknowledged.
    pub in_flight: usize,
    /// Bytes of payload a data message takes.
    pub payload_len: usize,
    /// Messages that wait behind a gap.
    pub parked: usize,
}
