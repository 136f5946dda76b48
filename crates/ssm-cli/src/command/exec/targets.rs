//! Which machines `--targets` means.

use ssm_resolve::{ResolveError, Target};

use crate::args::ConnectionArgs;
use crate::error::Error;
use crate::lookup;

/// The ids of all machines that these texts mean, each once, in their order.
pub(super) async fn all(texts: &[String], connection: &ConnectionArgs) -> Result<Vec<String>, Error> {
    let mut ids: Vec<String> = Vec::new();
    for text in texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
        let target: Target = text.parse()?;
        let found = match lookup::explain(&target, None, connection).await?.result {
            Ok(resolved) => vec![resolved.target().to_string()],
            Err(ResolveError::Ambiguous { matches, more, .. }) => {
                if more != ssm_resolve::More::No {
                    return Err(Error::Usage(format!(
                        "{target} means more than {} machines; narrow it down, or give their ids",
                        matches.len()
                    )));
                }
                matches.iter().map(|found| found.target.to_string()).collect()
            }
            Err(error) => return Err(error.into()),
        };
        for id in found {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
    }
    if ids.is_empty() { Err(Error::Usage("--targets names no machine".into())) } else { Ok(ids) }
}
