//! What both ends do with time.

use std::time::Instant;

use ssm_smux::Mux;

/// The first of these that is still to come.
pub(crate) fn next_of(now: Instant, times: impl Iterator<Item = Instant>) -> Option<Instant> {
    times.filter(|at| *at > now).min()
}

/// Serves a multiplexer's deadlines, and sees that nothing is due that it did not announce.
pub(crate) fn serve_mux(mux: &mut Mux, now: Instant) {
    let announced = mux.poll_timeout();
    let due = announced.is_some_and(|at| at <= now);
    let waiting = mux.control_len();
    mux.handle_timeout(now);
    if !due {
        assert_eq!(mux.poll_timeout(), announced, "the multiplexer moved a deadline early");
        assert_eq!(mux.control_len(), waiting, "the multiplexer had this to send unannounced");
    }
}
