//! Many connections: how fast they come and go, and what each of them costs.

use std::net::SocketAddr;

use crate::crowd::{self, Finish};
use crate::load::Way;
use crate::path::{Path, Results};
use crate::stack::Setting;
use crate::table::Samples;
use crate::{Failure, KIB, table};

/// New connections a second: each is opened, has one byte echoed, and is closed.
pub(crate) fn connections(_: SocketAddr, runs: usize) -> Result<(), Failure> {
    const COUNT: usize = 5000;
    let destination = crowd::destination()?;
    let runtime = crowd::runtime()?;
    let tunnel = Path::tunnel(destination, Setting::fast(KIB), &["--pacing", "off"])?;
    let mut rows = Vec::new();
    for workers in [1, 8] {
        let mut rates = [Samples::default(), Samples::default()];
        for _ in 0..runs {
            for (address, rates) in [destination, tunnel.entrance].into_iter().zip(&mut rates) {
                let took = runtime.block_on(crowd::short(address, COUNT, workers))?;
                rates.push(COUNT as f64 / took.as_secs_f64());
            }
        }
        let [raw, tunnelled] = rates.map(|rates| rates.shown(0));
        rows.push(vec![workers.to_string(), raw, tunnelled, tunnel.peak_rss()?]);
    }
    let head = ["workers", "raw TCP, a second", "tunnel, a second", "client peak RSS MiB"];
    table::print("New connections, profile `fast`, no pacing, none failed", &head, &rows);
    Ok(())
}

/// From one stream to a thousand: the rate of all together, and the memory of each.
pub(crate) fn streams(_: SocketAddr, runs: usize) -> Result<(), Failure> {
    const BYTES: u64 = 512 << 20;
    let destination = crowd::destination()?;
    let runtime = crowd::runtime()?;
    let mut rows = Vec::new();
    for count in [1, 10, 100, 1000] {
        let options = ["--payload-size", "32768", "--pacing", "off"];
        let tunnel = Path::tunnel(destination, Setting::fast(32 * KIB), &options)?;
        let first = runtime.block_on(crowd::open(tunnel.entrance, 1))?;
        let before = tunnel.client.rss()?;
        let more = runtime.block_on(crowd::open(tunnel.entrance, count))?;
        let idle = (tunnel.client.rss()?.saturating_sub(before)) as f64 / count as f64;
        drop((first, more));
        for way in [Way::Up, Way::Down] {
            let mut results = Results::default();
            let mut fair = Samples::default();
            for _ in 0..runs {
                let streams = runtime.block_on(crowd::open(tunnel.entrance, count))?;
                tunnel.measured(BYTES, &mut results, || {
                    let each = BYTES / count as u64;
                    let Finish { first, last } = runtime.block_on(crowd::transfer(streams, way, each))?;
                    fair.push(100.0 * first.as_secs_f64() / last.as_secs_f64());
                    Ok(last.as_secs_f64())
                })?;
            }
            rows.push(vec![
                count.to_string(),
                way.to_string(),
                results.rate.shown(0),
                results.client.shown(2),
                // What comes down is shared out by the agent.
                if way == Way::Up { fair.shown(0) } else { String::new() },
                format!("{idle:.1}"),
                tunnel.peak_rss()?,
            ]);
        }
    }
    let head = [
        "streams",
        "way",
        "MiB/s together",
        "client CPU s/GiB",
        "first done, % of the time of all",
        "KiB for each idle stream",
        "client peak RSS MiB",
    ];
    table::print("Streams of one session, profile `fast`, no pacing: bounded by this machine", &head, &rows);
    Ok(())
}

/// From one lane to 32, each with one connection: AWS's agent bounds the download of each.
pub(crate) fn lanes(_: SocketAddr, runs: usize) -> Result<(), Failure> {
    const BYTES: u64 = 4 << 20;
    let destination = crowd::destination()?;
    let runtime = crowd::runtime()?;
    let runs = runs.div_ceil(2);
    let mut rows = Vec::new();
    let mut one = None;
    for count in [1, 2, 4, 8, 16, 32] {
        let tunnel = Path::lanes(destination, Setting::aws(), count, &[])?;
        let mut results = Results::default();
        for _ in 0..runs {
            let streams = runtime.block_on(crowd::open(tunnel.entrance, count))?;
            tunnel.measured(BYTES * count as u64, &mut results, || {
                Ok(runtime.block_on(crowd::transfer(streams, Way::Down, BYTES))?.last.as_secs_f64())
            })?;
        }
        let rate = results.rate.median();
        let times = rate / *one.get_or_insert(rate);
        rows.push(vec![
            count.to_string(),
            results.rate.shown(2),
            format!("{times:.2}"),
            results.client.shown(1),
            tunnel.peak_rss()?,
        ]);
    }
    let head = ["lanes", "MiB/s together", "times one lane", "client CPU s/GiB", "client peak RSS MiB"];
    table::print(
        "Download over lanes, profile `aws`: bounded by AWS's agent, 0.72 MiB/s a lane",
        &head,
        &rows,
    );
    Ok(())
}
