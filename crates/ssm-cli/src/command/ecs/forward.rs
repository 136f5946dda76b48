//! `ssm ecs forward`: `ssm forward` through a container that is found level by level.

use std::process::ExitCode;

use super::Ecs;
use super::place::{Ask, Wanted, choose};
use crate::args::{EcsForwardArgs, PartArgs};
use crate::background;
use crate::command;
use crate::config::Config;
use crate::error::Error;

/// Runs the command.
pub(super) async fn run(mut args: EcsForwardArgs, config: &Config) -> Result<ExitCode, Error> {
    let forward = &mut args.forward;
    let is_alias = config.alias(forward.target.as_deref()).is_some();
    if is_alias && args.parts != PartArgs::default() {
        let said = "an alias says which container: leave out --cluster, --service, --task and --container";
        return Err(Error::Usage(said.into()));
    }
    // What is not understood is told before anything is asked.
    if !is_alias {
        if forward.specs.is_empty() && forward.proxies.is_empty() && forward.stdio.is_none() {
            return Err(Error::Usage("say what to forward: -L SPEC, -D PORT or -W HOST:PORT".into()));
        }
        let wanted = Wanted::read(forward.target.as_deref(), &args.parts)?;
        forward.target = match background::handed_over().filter(|_| forward.detached) {
            Some(target) => Some(target),
            None => {
                let mut connection = forward.connection.clone();
                let _ = config.fill(None, &mut connection);
                let ecs = Ecs::load(&connection).await?;
                let chosen = choose(&ecs, &wanted, Ask::new(&connection)).await?;
                Some(chosen.task.session_target(&chosen.container)?.to_string())
            }
        };
        // The second process must not ask again.
        if let Some(target) = forward.target.as_ref().filter(|_| forward.stays()) {
            background::hand_over(target);
        }
    }
    command::forward::run(args.forward, config).await
}
