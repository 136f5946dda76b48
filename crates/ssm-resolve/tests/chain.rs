//! Chains of built-in and own steps against an account in memory.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use common::Account;
use ssm_resolve::{
    Aliases, Answer, Chain, InstanceTag, LookupError, LookupErrorKind, Outcome, ResolveError, Resolver,
    SessionTarget, Several, Target,
};
use tokio::sync::Notify;

const RUNNING: (&str, &str) = ("instance-state-name", "running");

#[tokio::test]
async fn an_id_calls_no_step() {
    let chain = Chain::new().then(Panics);
    for id in ["i-0123456789ABCDEF0", "mi-01234567", "ecs:prod_8f01_8f01-31"] {
        let explanation = chain.explain(&target(id)).await;
        assert_eq!(explanation.result.unwrap().target().as_str(), id);
        assert_eq!(explanation.attempts, []);
    }
    let arn = target("arn:aws:ec2:eu-west-1:123456789012:instance/i-01234567");
    assert_eq!(chain.resolve(&arn).await.unwrap().target().as_str(), "i-01234567");
}

#[tokio::test]
async fn every_form_finds_its_instance_in_one_call() {
    let account = account();
    let chain = Chain::standard(Aliases::default(), account.clone());
    for (text, id, asked) in [
        ("web", "i-00000001", "tag:Name=web"),
        ("Name:web", "i-00000001", "tag:Name=web"),
        ("tag:Role=db:main", "i-00000002", "tag:Role=db:main"),
        ("Role:db:main", "i-00000002", "tag:Role=db:main"),
        ("asg:workers", "i-00000003", "tag:aws:autoscaling:groupName=workers"),
        ("10.0.0.1", "i-00000001", "private-ip-address=10.0.0.1"),
        ("52.1.1.1", "i-00000002", "ip-address=52.1.1.1"),
        ("[2001:DB8::1]", "i-00000003", "network-interface.ipv6-addresses.ipv6-address=2001:db8::1"),
        ("::ffff:10.0.0.1", "i-00000001", "private-ip-address=10.0.0.1"),
    ] {
        let resolved = chain.resolve(&target(text)).await.unwrap();
        assert_eq!(resolved.target().as_str(), id, "{text}");
        assert_eq!(account.questions(), [asked], "{text}");
    }
}

#[tokio::test]
async fn an_instance_that_is_not_running_is_not_found() {
    let chain = Chain::standard(Aliases::default(), account());
    let error = chain.resolve(&target("tag:Name=stopped")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no machine found for 'tag:Name=stopped'\n  tag of an instance: nothing found"
    );
}

#[tokio::test]
async fn the_computer_name_is_looked_up_last() {
    let account = account();
    let chain = Chain::standard(Aliases::default(), account.clone());
    let resolved = chain.resolve(&target("laptop")).await.unwrap();
    assert_eq!(resolved.target().as_str(), "mi-00000009");
    assert_eq!(resolved.step.as_deref(), Some("computer name of a managed node"));
    assert_eq!(account.questions(), ["tag:Name=laptop", "node laptop"]);
}

#[tokio::test]
async fn an_alias_is_followed_and_must_be_a_single_machine() {
    let aliases =
        [("prod", "tag:Role=db:main"), ("all", "tag:Fleet=one"), ("box", "i-0abcdef0"), ("web", "web")];
    let aliases: BTreeMap<_, _> = aliases.map(|(name, text)| (name.to_owned(), target(text))).into();
    let chain = Chain::standard(Aliases::new(aliases), account()).several(Several::First);
    assert_eq!(chain.resolve(&target("prod")).await.unwrap().target().as_str(), "i-00000002");
    assert_eq!(chain.resolve(&target("box")).await.unwrap().target().as_str(), "i-0abcdef0");
    assert_eq!(chain.resolve(&target("web")).await.unwrap().target().as_str(), "i-00000001");
    let error = chain.resolve(&target("all")).await.unwrap_err();
    assert!(matches!(error, ResolveError::Ambiguous { .. }), "{error}");
}

#[tokio::test]
async fn several_instances_are_listed_or_the_first_is_taken() {
    let chain = Chain::standard(Aliases::default(), account());
    let error = chain.resolve(&target("tag:Fleet=one")).await.unwrap_err();
    let ResolveError::Ambiguous { matches, .. } = &error else { panic!("{error}") };
    assert_eq!(matches.len(), 3);
    assert!(error.to_string().ends_with("\n  i-00000001\n  i-00000002\n  i-00000003"), "{error}");
    let chain = chain.several(Several::First);
    assert_eq!(chain.resolve(&target("tag:Fleet=one")).await.unwrap().target().as_str(), "i-00000001");
}

#[tokio::test]
async fn a_failed_step_does_not_hide_a_later_success() {
    let denied = Account {
        broken: Some((LookupErrorKind::AccessDenied, "ec2:DescribeInstances is denied")),
        ..account()
    };
    let chain = Chain::new().then(InstanceTag::new(denied.clone())).then(Fixed("own", "web", 7));
    let explanation = chain.explain(&target("web")).await;
    assert_eq!(explanation.result.unwrap().target().as_str(), "i-00000007");
    assert!(matches!(explanation.attempts[0].outcome, Outcome::Failed(_)));
    let chain = Chain::new().then(InstanceTag::new(denied)).then(Fixed("own", "db", 7));
    let error = chain.resolve(&target("web")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no machine found for 'web'\n  tag of an instance: ec2:DescribeInstances is denied\n  own: nothing found"
    );
}

#[tokio::test]
async fn own_steps_stand_anywhere() {
    let first = Chain::new().then(Fixed("own", "web", 7)).then(InstanceTag::new(account()));
    assert_eq!(first.resolve(&target("web")).await.unwrap().target().as_str(), "i-00000007");
    let last = Chain::new().then(InstanceTag::new(account())).then(Fixed("own", "web", 7));
    assert_eq!(last.resolve(&target("web")).await.unwrap().target().as_str(), "i-00000001");
}

#[tokio::test]
async fn no_steps_find_nothing() {
    let error = Chain::new().resolve(&target("web")).await.unwrap_err();
    assert!(matches!(error, ResolveError::NotFound { attempts, .. } if attempts.is_empty()));
}

#[tokio::test]
async fn a_later_step_is_not_asked_when_an_earlier_one_answers() {
    let chain = Chain::new().then(Fixed("own", "web", 7)).then(Panics);
    let explanation = chain.explain(&target("web")).await;
    assert_eq!(explanation.to_string(), "own: found i-00000007\nlast: not asked\ni-00000007 by own");
}

#[tokio::test]
async fn steps_side_by_side_run_together_and_count_in_order() {
    let (slow, quick) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    // The first waits for the second to have been asked, so this would hang if they took turns.
    let first = Meets { number: 1, waits_for: Arc::clone(&quick), tells: Arc::clone(&slow) };
    let second = Meets { number: 2, waits_for: Arc::new(Notify::new()), tells: quick };
    let chain = Chain::new().then(first).alongside(second);
    let explanation = chain.explain(&target("web")).await;
    assert_eq!(explanation.result.unwrap().target().as_str(), "i-00000001");
    assert_eq!(explanation.attempts[1].outcome, Outcome::NotAsked, "its answer was not waited for");
}

#[tokio::test]
async fn a_quicker_answer_does_not_beat_an_earlier_step() {
    for _ in 0..20 {
        let tells = Arc::new(Notify::new());
        let first = Meets { number: 1, waits_for: Arc::clone(&tells), tells: Arc::new(Notify::new()) };
        let second = Told { tells };
        let chain = Chain::new().then(first).alongside(second);
        assert_eq!(chain.resolve(&target("web")).await.unwrap().target().as_str(), "i-00000001");
    }
}

fn account() -> Account {
    Account {
        instances: vec![
            (
                "i-00000001",
                &[("tag:Name", "web"), ("tag:Fleet", "one"), ("private-ip-address", "10.0.0.1"), RUNNING],
            ),
            (
                "i-00000002",
                &[("tag:Role", "db:main"), ("tag:Fleet", "one"), ("ip-address", "52.1.1.1"), RUNNING],
            ),
            (
                "i-00000003",
                &[
                    ("tag:aws:autoscaling:groupName", "workers"),
                    ("tag:Fleet", "one"),
                    ("network-interface.ipv6-addresses.ipv6-address", "2001:db8::1"),
                    RUNNING,
                ],
            ),
            ("i-00000004", &[("tag:Name", "stopped"), ("instance-state-name", "stopped")]),
        ],
        nodes: vec![("mi-00000009", "LAPTOP.corp.example.com")],
        ..Account::default()
    }
}

fn target(text: &str) -> Target {
    text.parse().unwrap()
}

fn machine(number: u32) -> Answer {
    let id: SessionTarget = format!("i-{number:08}").parse().unwrap();
    Answer::Found(id.into())
}

/// Knows one name.
struct Fixed(&'static str, &'static str, u32);

impl Resolver for Fixed {
    fn step(&self) -> Cow<'_, str> {
        self.0.into()
    }

    async fn resolve(&self, target: &Target) -> Result<Answer, LookupError> {
        Ok(if target.to_string() == self.1 { machine(self.2) } else { Answer::Nothing })
    }
}

/// Must not be asked.
struct Panics;

impl Resolver for Panics {
    fn step(&self) -> Cow<'_, str> {
        "last".into()
    }

    async fn resolve(&self, target: &Target) -> Result<Answer, LookupError> {
        panic!("asked for {target}")
    }
}

/// Answers once it was told to.
struct Meets {
    number: u32,
    waits_for: Arc<Notify>,
    tells: Arc<Notify>,
}

impl Resolver for Meets {
    fn step(&self) -> Cow<'_, str> {
        "meets".into()
    }

    async fn resolve(&self, _: &Target) -> Result<Answer, LookupError> {
        self.tells.notify_one();
        self.waits_for.notified().await;
        Ok(machine(self.number))
    }
}

/// Answers at once.
struct Told {
    tells: Arc<Notify>,
}

impl Resolver for Told {
    fn step(&self) -> Cow<'_, str> {
        "told".into()
    }

    async fn resolve(&self, _: &Target) -> Result<Answer, LookupError> {
        self.tells.notify_one();
        Ok(machine(2))
    }
}
