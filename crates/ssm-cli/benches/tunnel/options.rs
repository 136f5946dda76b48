//! What stands behind `cargo xtask bench NAME --`: options, and names of measurements.

use crate::Failure;

/// The measurements that are named, or all. Each option needs a value, which `set` gets with the option's name.
pub(crate) fn chosen<'a, M: Copy>(
    words: impl IntoIterator<Item = &'a str>,
    measurements: &[(&str, M)],
    options: &[&str],
    mut set: impl FnMut(&str, &str) -> Result<(), Failure>,
) -> Result<Vec<M>, Failure> {
    let mut names = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if options.contains(&word) {
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            set(word, value)?;
        } else if measurements.iter().any(|(known, _)| *known == word) {
            names.push(word);
        } else {
            let known: Vec<&str> = measurements.iter().map(|(name, _)| *name).collect();
            return Err(format!("no measurement {word}; there are: {}", known.join(", ")).into());
        }
    }
    let chosen = measurements.iter().filter(|(name, _)| names.is_empty() || names.contains(name));
    Ok(chosen.map(|(_, measurement)| *measurement).collect())
}
