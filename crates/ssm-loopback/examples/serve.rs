//! Serves until standard input ends, and prints what an AWS client needs to know:
//! `cargo run -p ssm-loopback --example serve`.

use std::io::{Read, Write};

use ssm_loopback::{Config, Loopback};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let loopback = Loopback::start(Config::default()).await?;
    println!("export AWS_ENDPOINT_URL={}", loopback.endpoint_url());
    println!("export AWS_ACCESS_KEY_ID={}", loopback.access_key());
    println!("export AWS_SECRET_ACCESS_KEY={}", loopback.secret_key().expose());
    println!("export AWS_DEFAULT_REGION={}", loopback.region());
    println!("# aws ssm start-session --target {}", loopback.target());
    std::io::stdout().flush()?;
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    loopback.shutdown().await;
    Ok(())
}
