//! `ssm resolve`

use std::process::ExitCode;

use serde_json::json;
use ssm_resolve::{Explanation, ResolveError, Target};

use crate::args::ResolveArgs;
use crate::config::Config;
use crate::error::Error;
use crate::lookup;
use crate::output::{Json, print, say};

/// Runs the command.
pub(crate) async fn run(mut args: ResolveArgs, config: &Config) -> Result<ExitCode, Error> {
    let alias = config.fill(Some(&args.target), &mut args.connection);
    let alias: Option<Target> = alias.map(|alias| alias.target.text.parse()).transpose()?;
    let target: Target = args.target.parse()?;
    let explanation = lookup::explain(&target, alias, &args.connection).await?;
    if let Err(ResolveError::Ambiguous { matches, more, .. }) = &explanation.result
        && lookup::can_choose()
        && !args.json
    {
        explanation.attempts.iter().for_each(say);
        print(format!("{}\n", lookup::choose(&target, matches, *more).await?.target))?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.json {
        print(format!("{}\n", Json(to_json(&target, &explanation))))?;
    } else if explanation.result.is_ok() {
        // A failure brings what each step said with it.
        explanation.attempts.iter().for_each(say);
    }
    let resolved = explanation.result?;
    if !args.json {
        print(format!("{}\n", resolved.target()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn to_json(target: &Target, explanation: &Explanation) -> serde_json::Value {
    let steps = explanation.attempts.iter().map(|attempt| {
        let (step, said) = (&attempt.step, attempt.outcome.to_string());
        match &attempt.alias {
            Some(alias) => json!({ "step": step, "for": alias.to_string(), "said": said }),
            None => json!({ "step": step, "said": said }),
        }
    });
    let steps: Vec<_> = steps.collect();
    match &explanation.result {
        Ok(resolved) => {
            json!({ "target": target.to_string(), "found": resolved.found, "step": resolved.step, "steps": steps })
        }
        Err(ResolveError::Ambiguous { matches, .. }) => {
            json!({ "target": target.to_string(), "matches": matches, "steps": steps })
        }
        Err(_) => json!({ "target": target.to_string(), "steps": steps }),
    }
}
