//! When the size of the terminal is sent.

use std::time::{Duration, Instant};

use ssm_session::TerminalSize;

/// Sizes are sent no more often than this.
const INTERVAL: Duration = Duration::from_millis(100);

/// What a terminal without a size is taken for.
pub(crate) const UNKNOWN: TerminalSize = TerminalSize { cols: 80, rows: 24 };

/// Sends the first size at once and later ones when they differ, a series of them as its last.
#[derive(Debug)]
pub(crate) struct Resize {
    current: TerminalSize,
    sent: Option<(TerminalSize, Instant)>,
    /// The size is sent even if it was sent before.
    again: bool,
    /// Another size goes in front of it, so that it is a change.
    detour: bool,
}

impl Resize {
    pub(crate) fn new(size: TerminalSize) -> Self {
        Self { current: size, sent: None, again: false, detour: false }
    }

    /// The terminal has this size.
    pub(crate) fn set(&mut self, size: TerminalSize) {
        self.current = size;
    }

    /// The last size may not have been heeded.
    pub(crate) fn repeat(&mut self) {
        self.again = true;
    }

    /// What was drawn is gone: a change to another size and back makes programs draw again.
    pub(crate) fn redraw(&mut self) {
        self.detour = self.sent.is_some();
    }

    /// The size of the terminal.
    pub(crate) fn current(&self) -> TerminalSize {
        self.current
    }

    /// Whether a size was sent at all.
    pub(crate) fn was_sent(&self) -> bool {
        self.sent.is_some()
    }

    /// When a size has to be sent; `None` when the last one still holds.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        match self.sent {
            None => Some(now),
            Some((size, at)) => (self.again || self.detour || size != self.current).then(|| at + INTERVAL),
        }
    }

    /// The size to send, if one is due. It counts as sent.
    pub(crate) fn take(&mut self, now: Instant) -> Option<TerminalSize> {
        self.due(now).filter(|due| *due <= now)?;
        let mut size = self.current;
        if std::mem::take(&mut self.detour) {
            size.rows = if size.rows > 1 { size.rows - 1 } else { size.rows + 1 };
        }
        self.sent = Some((size, now));
        self.again = false;
        Some(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: TerminalSize = TerminalSize { cols: 40, rows: 12 };
    const LARGE: TerminalSize = TerminalSize { cols: 200, rows: 60 };

    #[test]
    fn item_71_the_first_size_goes_out_at_once_and_only_once() {
        let start = Instant::now();
        let mut resize = Resize::new(SMALL);
        assert_eq!(resize.take(start), Some(SMALL));
        resize.set(SMALL);
        assert_eq!(resize.due(start), None);
        assert_eq!(resize.take(start + INTERVAL), None);
    }

    #[test]
    fn a_series_of_sizes_is_sent_as_its_last() {
        let start = Instant::now();
        let mut resize = Resize::new(SMALL);
        resize.take(start);
        for cols in 41..90 {
            resize.set(TerminalSize { cols, rows: 12 });
            assert_eq!(resize.take(start + INTERVAL / 2), None);
        }
        resize.set(LARGE);
        assert_eq!(resize.due(start), Some(start + INTERVAL));
        assert_eq!(resize.take(start + INTERVAL), Some(LARGE));
        assert_eq!(resize.due(start + INTERVAL), None);
    }

    #[test]
    fn a_lone_change_is_sent_without_delay() {
        let start = Instant::now();
        let mut resize = Resize::new(SMALL);
        resize.take(start);
        resize.set(LARGE);
        assert_eq!(resize.take(start + INTERVAL * 5), Some(LARGE));
    }

    #[test]
    fn a_size_is_repeated_on_demand() {
        let start = Instant::now();
        let mut resize = Resize::new(SMALL);
        resize.take(start);
        resize.repeat();
        assert_eq!(resize.take(start + INTERVAL), Some(SMALL));
        assert_eq!(resize.due(start + INTERVAL), None);
    }

    #[test]
    fn programs_draw_again_after_a_size_that_is_none() {
        let start = Instant::now();
        let mut resize = Resize::new(SMALL);
        resize.redraw();
        assert_eq!(resize.take(start), Some(SMALL), "nothing was drawn yet");
        resize.redraw();
        assert_eq!(resize.take(start + INTERVAL), Some(TerminalSize { cols: 40, rows: 11 }));
        assert_eq!(resize.take(start + INTERVAL), None);
        assert_eq!(resize.take(start + INTERVAL * 2), Some(SMALL));
        assert_eq!(resize.due(start + INTERVAL * 3), None);
    }
}
