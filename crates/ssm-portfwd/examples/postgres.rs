//! PostgreSQL through a session, with tokio-postgres: a client that takes any stream needs no local port.
//!
//! `PGUSER=me PGPORT=5432 cargo run -p ssm-portfwd --example postgres`, with a server on this machine that lets `me` in without a
//! password.

use std::env;
use std::error::Error;

use ssm_loopback::Loopback;
use ssm_portfwd::{Config, Destination, Tunnel};
use ssm_session::Session;
use tokio_postgres::NoTls;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = env::var("PGPORT").map_or(Ok(5432), |port| port.parse())?;
    // AWS in one process. With an account, `AwsControl` takes the place of `loopback.control()`.
    let loopback = Loopback::start(ssm_loopback::Config::default()).await?;
    let request = Destination::Host { host: "localhost".into(), port }.request(loopback.target());
    let session = Session::start(loopback.control(), &request, ssm_session::Config::default()).await?;
    let (tunnel, ended) = Tunnel::spawn(session, Config::default());

    let mut config = tokio_postgres::Config::new();
    config.user(env::var("PGUSER").unwrap_or_else(|_| "postgres".into())).dbname("postgres");
    let (client, connection) = config.connect_raw(tunnel.open().await?, NoTls).await?;
    let connection = tokio::spawn(connection);

    let (low, high) = (1_i32, 100_000_i32);
    let rows =
        client.query("select n, n * 7 from generate_series($1::int, $2::int) n", &[&low, &high]).await?;
    let right = rows.iter().filter(|row| row.get::<_, i32>(0) * 7 == row.get::<_, i32>(1)).count();
    println!("{right} of {} rows are right", rows.len());

    drop((client, tunnel));
    connection.await??;
    println!("{}", ended.await??);
    Ok(())
}
