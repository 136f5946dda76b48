//! How fast bytes go through a tunnel.

use std::net::SocketAddr;
use std::time::Duration;

use crate::load::Way;
use crate::path::{Path, Results};
use crate::stack::Setting;
use crate::{AGENT_LIMIT, FRAME_HEADER, Failure, KIB, MIB, PACING, table};

/// How fast one connection is, beside the ceiling in the same run.
pub(crate) fn transfer(destination: SocketAddr, runs: usize) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for (payload, bytes) in [(32 * KIB, 512 << 20), (KIB, 128 << 20)] {
        let ceiling = Path::ceiling(destination, payload - FRAME_HEADER)?;
        let size = payload.to_string();
        let options = ["--payload-size", &size, "--pacing", "off"];
        let tunnel = Path::tunnel(destination, Setting::fast(payload), &options)?;
        for way in [Way::Up, Way::Down] {
            let mut results = [Results::default(), Results::default()];
            for _ in 0..runs {
                ceiling.transfer(way, bytes, &mut results[0])?;
                tunnel.transfer(way, bytes, &mut results[1])?;
            }
            let share = |of: fn(&Results) -> f64| of(&results[1]) / of(&results[0]);
            let shares = [
                [String::new(), String::new()],
                [
                    format!("{:.0} %", 100.0 * share(|results| results.rate.median())),
                    format!("{:.2}", share(|results| results.client.median())),
                ],
            ];
            for (((name, path), results), [rate, cpu]) in
                [("ceiling", &ceiling), ("tunnel", &tunnel)].into_iter().zip(&results).zip(shares)
            {
                rows.push(vec![
                    payload.to_string(),
                    way.to_string(),
                    name.to_owned(),
                    results.rate.shown(0),
                    rate,
                    results.client.shown(2),
                    cpu,
                    results.other_side.shown(2),
                    path.peak_rss()?,
                ]);
            }
        }
    }
    let head = [
        "bytes a message",
        "way",
        "what",
        "MiB/s",
        "of the ceiling",
        "client CPU s/GiB",
        "times the ceiling",
        "other side CPU s/GiB",
        "client peak RSS MiB",
    ];
    table::print("Transfer, profile `fast`, no pacing: bounded by this machine", &head, &rows);
    Ok(())
}

/// How near the rate is to what pacing and AWS's agent allow.
pub(crate) fn agent(destination: SocketAddr, runs: usize) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let runs = runs.div_ceil(2);
    for (size, up) in [(Some(KIB), 8 << 20), (Some(8 * KIB), 64 << 20), (None, 256 << 20)] {
        let name = size.unwrap_or_default().to_string();
        let options = ["--payload-size", &name];
        let tunnel = Path::tunnel(destination, Setting::aws(), if size.is_some() { &options } else { &[] })?;
        // A size is found within the first mebibytes.
        tunnel.transfer(Way::Up, up / 8, &mut Results::default())?;
        let paced = PACING * (size.unwrap_or(LARGEST) - FRAME_HEADER) as f64 / MIB;
        for (way, bytes, limit) in [(Way::Up, up, paced), (Way::Down, 6 << 20, AGENT_LIMIT)] {
            let mut results = Results::default();
            for _ in 0..runs {
                tunnel.transfer(way, bytes, &mut results)?;
            }
            rows.push(row(&size, "900", way, &results, Some(limit), &tunnel)?);
        }
    }
    let unpaced = Path::tunnel(destination, Setting::aws(), &["--pacing", "off"])?;
    unpaced.transfer(Way::Up, 64 << 20, &mut Results::default())?;
    let mut results = Results::default();
    for _ in 0..runs {
        unpaced.transfer(Way::Up, 512 << 20, &mut results)?;
    }
    rows.push(row(&None, "off", Way::Up, &results, None, &unpaced)?);
    let head = [
        "bytes a message",
        "pacing",
        "way",
        "MiB/s",
        "limit",
        "off by",
        "client CPU s/GiB",
        "client peak RSS MiB",
    ];
    table::print(
        "Transfer, profile `aws`: up bounded by pacing, down by the pause of AWS's agent",
        &head,
        &rows,
    );
    Ok(())
}

/// The payload size that is found where nothing stands against it.
const LARGEST: usize = 32 * KIB;

fn row(
    size: &Option<usize>,
    pacing: &str,
    way: Way,
    results: &Results,
    limit: Option<f64>,
    path: &Path,
) -> Result<Vec<String>, Failure> {
    let off = |limit: f64| format!("{:+.1} %", 100.0 * (results.rate.median() / limit - 1.0));
    Ok(vec![
        size.map_or_else(|| "found".to_owned(), |size| size.to_string()),
        pacing.to_owned(),
        way.to_string(),
        results.rate.shown(2),
        limit.map_or_else(|| "machine".to_owned(), |limit| format!("{limit:.2}")),
        limit.map(off).unwrap_or_default(),
        results.client.shown(1),
        path.peak_rss()?,
    ])
}

/// What a long way and lost messages leave of the rate.
pub(crate) fn loss(destination: SocketAddr, runs: usize) -> Result<(), Failure> {
    const BYTES: u64 = 256 << 20;
    let setting = |loss| Setting { delay: Duration::from_millis(25), loss, ..Setting::fast(32 * KIB) };
    let options = ["--payload-size", "32768", "--pacing", "off"];
    let [whole, lossy] = [0, 10].map(|loss| Path::tunnel(destination, setting(loss), &options));
    let (whole, lossy) = (whole?, lossy?);
    let mut rows = Vec::new();
    for way in [Way::Up, Way::Down] {
        let mut results = [Results::default(), Results::default()];
        for _ in 0..runs {
            whole.transfer(way, BYTES, &mut results[0])?;
            lossy.transfer(way, BYTES, &mut results[1])?;
        }
        let share = 100.0 * results[1].rate.median() / results[0].rate.median();
        for ((name, results), share) in
            ["0 %", "1 %"].into_iter().zip(&results).zip([String::new(), format!("{share:.0} %")])
        {
            rows.push(vec![way.to_string(), name.to_owned(), results.rate.shown(1), share]);
        }
    }
    let head = ["way", "lost each way", "MiB/s", "of the loss-free rate"];
    table::print(
        "Transfer over 50 ms, profile `fast`, 32,768 bytes a message, every byte compared",
        &head,
        &rows,
    );
    Ok(())
}
