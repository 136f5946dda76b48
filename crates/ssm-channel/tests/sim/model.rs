//! What each side must receive: what the other side sent, once, in order.

use std::collections::VecDeque;

use ssm_proto::PayloadType;

/// One direction of a session.
#[derive(Debug, Default)]
pub(crate) struct Model {
    under_way: VecDeque<(PayloadType, Vec<u8>)>,
    /// Payloads that arrived.
    pub(crate) delivered: u64,
}

impl Model {
    /// A payload was accepted for sending.
    pub(crate) fn sent(&mut self, kind: PayloadType, payload: &[u8]) {
        self.under_way.push_back((kind, payload.to_vec()));
    }

    /// A payload came out on the other side.
    pub(crate) fn received(&mut self, kind: PayloadType, payload: &[u8]) {
        // The flags that open and end a port session and try out sizes are the channel's own.
        if kind == PayloadType::Flag && (payload.starts_with(&[0; 4]) || payload == [0, 0, 0, 2]) {
            return;
        }
        // And so are the sizes that try out sizes, which nobody has sent.
        let is_next = self.under_way.front().is_some_and(|next| next.0 == kind && next.1 == payload);
        if kind == PayloadType::Size && !is_next {
            return;
        }
        let number = self.delivered;
        let Some((expected_kind, expected)) = self.under_way.pop_front() else {
            panic!("payload {number} was never sent: {kind:?} of {} bytes", payload.len());
        };
        assert_eq!(kind, expected_kind, "type of payload {number}");
        assert!(payload == expected, "bytes of payload {number}");
        self.delivered += 1;
    }

    /// Whether everything arrived.
    pub(crate) fn is_complete(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Payloads that were sent and have not arrived.
    pub(crate) fn missing(&self) -> usize {
        self.under_way.len()
    }
}
