//! `ssm ecs`: shells in containers, tunnels through them, and what they lack.

mod check;
mod exec;
mod forward;
mod list;
mod place;

use std::process::ExitCode;

use ssm_resolve::{AwsClusters, Containers};
use ssm_session::AwsControl;

use crate::args::{ConnectionArgs, EcsArgs, EcsCommand};
use crate::config::Config;
use crate::error::Error;
use crate::options;

/// Runs the command.
pub(crate) async fn run(args: EcsArgs, config: &Config) -> Result<ExitCode, Error> {
    match args.command {
        EcsCommand::Exec(args) => exec::run(args, config).await,
        EcsCommand::Forward(args) => forward::run(*args, config).await,
        EcsCommand::List(args) => list::run(args, config).await,
        EcsCommand::Check(args) => check::run(args, config).await,
    }
}

/// The clusters of an account.
struct Ecs {
    account: AwsControl,
    client: aws_sdk_ecs::Client,
    containers: Containers<AwsClusters>,
}

impl Ecs {
    async fn load(connection: &ConnectionArgs) -> Result<Self, Error> {
        if connection.attach {
            return Err(Error::Usage("ssm ecs starts its sessions itself: leave out --attach".into()));
        }
        let account = options::account(connection).await?;
        let client = aws_sdk_ecs::Client::new(account.sdk_config());
        let containers = Containers::new(AwsClusters::from_client(client.clone()));
        Ok(Self { account, client, containers })
    }
}
