//! The loopback as a control plane of `ssm-session`.

use ssm_loopback::{Config, Loopback, Upgrade};
use ssm_session::{
    CloseReason, ControlErrorKind, ControlPlane, Event, PayloadType, Resumed, Session, SessionError,
    StartSession,
};
use tokio::time::timeout;

use crate::api::SOON;

#[tokio::test]
async fn a_session_runs_over_the_direct_control_plane() {
    let config = Config { upgrade: Upgrade::SignedOnly, shell: Some("/bin/sh".into()), ..Config::default() };
    let loopback = Loopback::start(config).await.unwrap();
    let request = StartSession::interactive_command(loopback.target(), "printf '%s-%s' one two");
    let mut session =
        Session::start(loopback.control(), &request, ssm_session::Config::default()).await.unwrap();
    let mut output = Vec::new();
    let reason = timeout(SOON, async {
        loop {
            match session.next_event().await {
                Event::Payload { kind: PayloadType::Output, payload } => output.extend_from_slice(&payload),
                Event::Closed(reason) => return reason,
                _ => {}
            }
        }
    })
    .await
    .unwrap();
    assert_eq!(output, b"one-two");
    assert_eq!(reason, CloseReason::AgentClosed { exit_code: None, detail: None });
}

#[tokio::test]
async fn errors_have_the_kinds_of_aws() {
    let loopback = Loopback::start(Config::default()).await.unwrap();
    let control = loopback.control();
    let start = async |request: StartSession| control.start(&request).await.unwrap_err().kind();
    assert_eq!(start(StartSession::shell("i-00000000")).await, ControlErrorKind::TargetNotConnected);
    let target = loopback.target();
    assert_eq!(start(StartSession::document(target, "Nope")).await, ControlErrorKind::InvalidDocument);
    let odd = StartSession::shell(target).parameter("x", "y");
    assert_eq!(start(odd).await, ControlErrorKind::InvalidDocument);
}

#[tokio::test]
async fn item_5_an_ended_session_is_over_for_resume() {
    let loopback = Loopback::start(Config::default()).await.unwrap();
    let control = loopback.control();
    let endpoint = control.start(&StartSession::shell(loopback.target())).await.unwrap();
    assert!(matches!(control.resume(&endpoint.session_id).await, Ok(Resumed::Endpoint(_))));
    control.terminate(&endpoint.session_id).await.unwrap();
    assert!(matches!(control.resume(&endpoint.session_id).await, Ok(Resumed::SessionOver)));
}

#[tokio::test]
async fn a_control_plane_outlives_its_loopback_without_harm() {
    let loopback = Loopback::start(Config::default()).await.unwrap();
    let (control, target) = (loopback.control(), loopback.target().to_owned());
    loopback.shutdown().await;
    let late = Session::start(control, &StartSession::shell(target), ssm_session::Config::default()).await;
    assert!(matches!(late, Err(SessionError::Control(error)) if error.kind() == ControlErrorKind::Service));
}
