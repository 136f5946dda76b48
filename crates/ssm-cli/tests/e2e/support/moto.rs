//! moto: AWS as others wrote it.

use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::process::{Process, run};
use super::system::installed;
use super::{SSM, clean};

/// A server of its own for each test.
pub(crate) struct Moto {
    pub(crate) endpoint: String,
    pub(crate) home: TempDir,
    _process: Process,
}

impl Moto {
    pub(crate) fn start() -> Self {
        let home = TempDir::new().unwrap();
        let mut command = clean(installed("SSM_TEST_MOTO"), home.path());
        let process = Process::spawn(command.args(["--host", "127.0.0.1", "--port", "0"]));
        let endpoint = process.until("where it listens", |text| {
            let (_, rest) = text.split_once("Running on ")?;
            Some(rest.split_once('\n')?.0.trim().to_owned())
        });
        Self { endpoint, home, _process: process }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn command(&self, program: impl AsRef<std::path::Path>) -> Command {
        let mut command = clean(program, self.home.path());
        command.env("AWS_ENDPOINT_URL", &self.endpoint).env("AWS_REGION", "eu-west-1");
        command.env("AWS_DEFAULT_REGION", "eu-west-1").env("AWS_PAGER", "");
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        command
    }

    pub(crate) fn ssm(&self, args: &[&str]) -> Command {
        let mut command = self.command(SSM);
        command.args(args);
        command
    }

    /// Starts instances with this Name tag; returns their ids.
    pub(crate) fn run_instances(&self, name: &str, count: usize) -> Vec<String> {
        self.run_instances_in("eu-west-1", name, count)
    }

    /// The same in this region.
    pub(crate) fn run_instances_in(&self, region: &str, name: &str, count: usize) -> Vec<String> {
        let tags = format!("ResourceType=instance,Tags=[{{Key=Name,Value={name}}}]");
        let mut aws = self.command(installed("SSM_TEST_AWS"));
        aws.args([
            "--region",
            region,
            "ec2",
            "run-instances",
            "--image-id",
            "ami-12c6146b",
            "--output",
            "json",
        ]);
        aws.args(["--count", &count.to_string(), "--tag-specifications", &tags]);
        let answer: Value = serde_json::from_str(&run(&mut aws)).unwrap();
        let instances = answer["Instances"].as_array().unwrap().iter();
        instances.map(|instance| instance["InstanceId"].as_str().unwrap().to_owned()).collect()
    }
}
