//! What `ssm loopback` says at its start, for its user to try.

/// An account and a machine.
#[derive(Debug, Default)]
pub(crate) struct Example {
    /// What leads an AWS SDK to the loopback, by the names of the variables.
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) target: String,
}

impl Example {
    /// Finds it in stderr; `None` until all of it is there.
    pub(crate) fn find(said: &str) -> Option<Self> {
        let (head, rest) = said.split_once("\nssm shell ")?;
        let (target, _) = rest.split_once('\n')?;
        let variables = head.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Some(Self { variables, target: target.to_owned() })
    }
}
