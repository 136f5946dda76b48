//! How far a copy has come, for whoever looks at a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{Lines, is_quiet, visible};

/// A bar on stderr, if that is a terminal and we are not to be quiet. `total` in bytes, where it is known.
pub(super) fn bar(name: &str, total: Option<u64>) -> ProgressBar {
    let target = if is_quiet() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(total, target);
    let template = match total {
        Some(_) => "{msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        None => "{msg} {spinner} {bytes} {bytes_per_sec}",
    };
    // The templates are constants that parse.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(visible(name, Lines::Joined).to_string());
    bar
}
