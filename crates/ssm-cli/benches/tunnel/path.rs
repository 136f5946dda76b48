//! Two processes that carry connections to the destination: the tunnel, or its ceiling.

use std::env;
use std::net::SocketAddr;
use std::process::Command;

use crate::load::{self, Way};
use crate::process::{Output, Process};
use crate::stack::{Forward, OtherSide, Setting};
use crate::table::Samples;
use crate::{Failure, MIB};

/// A way to the destination, and who is on it.
pub(crate) struct Path {
    pub(crate) client: Process,
    other_side: Process,
    /// Where the local program connects.
    pub(crate) entrance: SocketAddr,
}

impl Path {
    /// The hops of a tunnel without its protocol.
    pub(crate) fn ceiling(destination: SocketAddr, payload: usize) -> Result<Self, Failure> {
        let payload = payload.to_string();
        let program = env::current_exe()?;
        let mut server = Command::new(&program);
        server.args(["ceiling-server", &destination.to_string(), &payload]);
        let mut other_side = Process::start(&mut server, Output::Stdout)?;
        let mut client = Command::new(&program);
        client.args(["ceiling-client", &other_side.line()?, &payload]);
        let mut client = Process::start(&mut client, Output::Stdout)?;
        let entrance = client.line()?.parse()?;
        Ok(Self { client, other_side, entrance })
    }

    /// `ssm forward` over one session.
    pub(crate) fn tunnel(
        destination: SocketAddr,
        setting: Setting,
        options: &[&str],
    ) -> Result<Self, Failure> {
        let mut other_side = OtherSide::start(setting)?;
        let session = other_side.session(destination)?;
        let Forward { process, entrance } = Forward::attach(destination, &session, options)?;
        Ok(Self { client: process, other_side: other_side.process, entrance })
    }

    /// `ssm forward` that starts its sessions itself, up to this many.
    pub(crate) fn lanes(
        destination: SocketAddr,
        setting: Setting,
        lanes: usize,
        options: &[&str],
    ) -> Result<Self, Failure> {
        let other_side = OtherSide::start(setting)?;
        let lanes = lanes.to_string();
        let options = [options, &["--lanes", &lanes]].concat();
        let Forward { process, entrance } = other_side.forward(destination, &options)?;
        Ok(Self { client: process, other_side: other_side.process, entrance })
    }

    /// One transfer over a connection of its own.
    pub(crate) fn transfer(&self, way: Way, bytes: u64, results: &mut Results) -> Result<(), Failure> {
        let mut stream = load::connect(self.entrance)?;
        self.measured(bytes, results, || Ok(load::transfer(&mut stream, way, bytes)?.as_secs_f64()))
    }

    /// A transfer of so many bytes, which returns how many seconds it took.
    pub(crate) fn measured(
        &self,
        bytes: u64,
        results: &mut Results,
        transfer: impl FnOnce() -> Result<f64, Failure>,
    ) -> Result<(), Failure> {
        let before = (self.client.cpu()?, self.other_side.cpu()?);
        let seconds = transfer()?;
        let gib = bytes as f64 / MIB / 1024.0;
        results.rate.push(bytes as f64 / MIB / seconds);
        results.client.push((self.client.cpu()? - before.0).as_secs_f64() / gib);
        results.other_side.push((self.other_side.cpu()? - before.1).as_secs_f64() / gib);
        Ok(())
    }

    /// Most memory that the client held so far, in MiB.
    pub(crate) fn peak_rss(&self) -> Result<String, Failure> {
        Ok(format!("{:.1}", self.client.peak_rss()? as f64 / 1024.0))
    }
}

/// Of several transfers: MiB/s, and processor seconds for each GiB.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) rate: Samples,
    pub(crate) client: Samples,
    pub(crate) other_side: Samples,
}
