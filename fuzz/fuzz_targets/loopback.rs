//! The loopback's HTTP: requests cut and written by anybody, and what is behind their signatures.
//!
//! The first byte chooses: raw bytes on a connection, a form, or an operation whose name is up to the first line break and whose
//! JSON is behind it. Nothing makes it panic, hang or hold more than its limits.

#![no_main]

use std::cell::RefCell;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use ssm_loopback::fuzzing::Api;
use ssm_loopback::{Config, Kms, KmsChallenge};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// Longest that an answer takes. Sessions that were started have an agent that does not find its gateway.
const PATIENCE: Duration = Duration::from_secs(2);

/// Inputs after which the service begins anew, so that sessions do not pile up.
const INPUTS: u32 = 200;

const TARGETS: [&str; 18] = [
    "AmazonSSM.StartSession",
    "AmazonSSM.ResumeSession",
    "AmazonSSM.TerminateSession",
    "AmazonSSM.DescribeSessions",
    "AmazonSSM.DescribeInstanceInformation",
    "AmazonSSM.GetDocument",
    "AmazonSSM.DescribeDocument",
    "AmazonSSM.GetConnectionStatus",
    "AmazonEC2ContainerServiceV20141113.ListClusters",
    "AmazonEC2ContainerServiceV20141113.DescribeClusters",
    "AmazonEC2ContainerServiceV20141113.ListServices",
    "AmazonEC2ContainerServiceV20141113.ListTasks",
    "AmazonEC2ContainerServiceV20141113.DescribeTasks",
    "AmazonEC2ContainerServiceV20141113.DescribeTaskDefinition",
    "AmazonEC2ContainerServiceV20141113.ExecuteCommand",
    "TrentService.GenerateDataKey",
    "Other.Operation",
    "",
];

thread_local! {
    static WORLD: RefCell<Option<(Runtime, Api, u32)>> = const { RefCell::new(None) };
}

fuzz_target!(|input: &[u8]| {
    let Some((&choice, input)) = input.split_first() else { return };
    WORLD.with_borrow_mut(|world| {
        let (runtime, api, left) = world.get_or_insert_with(begin);
        runtime
            .block_on(async { timeout(PATIENCE, ask(api, choice, input)).await })
            .expect("it takes too long");
        *left -= 1;
        if *left == 0 {
            *world = None;
        }
    });
});

fn begin() -> (Runtime, Api, u32) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let api = {
        let _inside = runtime.enter();
        let kms = Kms { key_id: "alias/sessions".into(), challenge: KmsChallenge::Offered, authority: None };
        Api::new(Config { kms: Some(kms), ..Config::default() })
    };
    (runtime, api, INPUTS)
}

async fn ask(api: &Api, choice: u8, input: &[u8]) {
    match usize::from(choice) {
        0..64 => talk(api, input).await,
        64..72 => assert!(api.query(input).starts_with('<')),
        other => {
            let target = TARGETS[other % TARGETS.len()];
            let _ = api.call(target, input).await;
        }
    }
}

/// A connection that brings `input` and ends.
async fn talk(api: &Api, input: &[u8]) {
    let (mut here, there) = tokio::io::duplex(64 * 1024);
    let speak = async {
        let _ = here.write_all(input).await;
        let _ = here.shutdown().await;
        let mut answer = Vec::new();
        let _ = here.read_to_end(&mut answer).await;
        answer
    };
    let (answer, ()) = tokio::join!(speak, api.serve(there));
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{answer:?}");
}
