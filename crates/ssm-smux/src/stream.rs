//! The life of one stream, seen from both ends.
//!
//! ```text
//! this side   Unannounced --SYN sent--> Open --finish--> Finishing --FIN sent--> Finished
//! peer        Open --FIN received--> Finished          (Ignored: the owner forgot the stream)
//! ```

/// What this side has done with the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Local {
    /// The SYN waits for the first data or for its turn.
    Unannounced,
    Open,
    /// The FIN waits for its turn.
    Finishing,
    Finished,
}

/// What the peer has done with the stream, as far as the owner still wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Open,
    Finished,
    /// The owner forgot the stream; nothing the peer sends matters.
    Ignored,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) local: Local,
    pub(crate) peer: Peer,
    /// Bytes handed out as events and not yet given back.
    pub(crate) unconsumed: usize,
}

impl Stream {
    /// A stream of our own, not yet announced.
    pub(crate) fn outgoing() -> Self {
        Self { local: Local::Unannounced, peer: Peer::Open, unconsumed: 0 }
    }

    /// A stream that the peer announced.
    pub(crate) fn incoming() -> Self {
        Self { local: Local::Open, peer: Peer::Open, unconsumed: 0 }
    }

    /// Whether data from the peer is still for the owner. A FIN of ours closes the receiving half as
    /// well (smux stream.go `Close`).
    pub(crate) fn receives(&self) -> bool {
        self.peer == Peer::Open && matches!(self.local, Local::Unannounced | Local::Open)
    }

    /// Whether nothing is left to send, to receive or to give back.
    pub(crate) fn is_done(&self) -> bool {
        self.local == Local::Finished
            && match self.peer {
                Peer::Open => false,
                Peer::Finished => self.unconsumed == 0,
                Peer::Ignored => true,
            }
    }
}
