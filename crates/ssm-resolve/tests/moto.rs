//! The AWS SDK against moto, a server that others wrote after AWS's documentation.
//!
//! `cargo xtask test` says where moto is.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::env;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::{BehaviorVersion, ConfigLoader, Region};
use aws_credential_types::Credentials;
use aws_sdk_ec2::types::{InstanceType, ResourceType, Tag, TagSpecification};
use aws_smithy_http_client::Builder;
use ssm_resolve::{
    Aliases, AwsClusters, AwsInventory, Chain, Clusters, ComputerName, InstanceTag, LookupErrorKind, More,
    ResolveError, Several, Target,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn every_form_finds_its_instance() {
    let moto = Moto::start(None).await;
    let ec2 = moto.ec2().await;
    let web = run(&ec2, "10.0.1.10", &[("Name", "web"), ("Role", "front:end"), ("Fleet", "one")]).await;
    let db = run(&ec2, "10.0.1.11", &[("Name", "db 1"), ("Fleet", "one"), ("Größe", "groß")]).await;
    let stopped = run(&ec2, "10.0.1.12", &[("Name", "stopped"), ("Fleet", "one")]).await;
    ec2.stop_instances().instance_ids(&stopped.id).send().await.unwrap();
    let chain = Chain::standard(Aliases::default(), moto.inventory().await);
    let public = web.public.clone();
    for (text, id) in [
        ("tag:Name=web", &web.id),
        ("Name:web", &web.id),
        ("web", &web.id),
        ("w?b", &web.id),
        ("Role:front:*", &web.id),
        ("db 1", &db.id),
        ("Größe:groß", &db.id),
        ("10.0.1.11", &db.id),
        (public.as_str(), &web.id),
        (web.id.as_str(), &web.id),
    ] {
        let resolved = chain.resolve(&target(text)).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(resolved.target().as_str(), id, "{text}");
    }
    for text in ["tag:Name=stopped", "10.0.1.12", "tag:Name=absent"] {
        let error = chain.resolve(&target(text)).await.unwrap_err();
        assert!(matches!(error, ResolveError::NotFound { .. }), "{text}: {error}");
        assert_eq!(error.failure(), None, "{text}: {error}");
    }
    let error = chain.resolve(&target("Fleet:one")).await.unwrap_err().to_string();
    for part in [&web.id, "  web  running  10.0.1.10", &db.id, "  db 1  running  10.0.1.11"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!error.contains(&stopped.id), "{error}");
    let first = chain.several(Several::First).resolve(&target("Fleet:one")).await.unwrap();
    assert!([&web.id, &db.id].contains(&&first.target().to_string()));
}

#[tokio::test]
async fn an_auto_scaling_group_is_found_by_its_tag() {
    let moto = Moto::start(None).await;
    // moto checks no tag for the prefix that AWS keeps for itself.
    let worker = run(&moto.ec2().await, "10.0.1.20", &[("aws:autoscaling:groupName", "workers")]).await;
    let chain = Chain::standard(Aliases::default(), moto.inventory().await);
    let resolved = chain.resolve(&target("asg:workers")).await.unwrap();
    assert_eq!(resolved.target().as_str(), worker.id);
}

#[tokio::test]
async fn many_instances_are_listed_up_to_a_bound() {
    let moto = Moto::start(None).await;
    let ec2 = moto.ec2().await;
    let fleet = tags(&[("Fleet", "big")]);
    let call = ec2.run_instances().image_id(IMAGE).min_count(250).max_count(250).tag_specifications(fleet);
    call.send().await.unwrap();
    let chain = Chain::new().then(InstanceTag::new(moto.inventory().await));
    let error = chain.resolve(&target("Fleet:big")).await.unwrap_err();
    let ResolveError::Ambiguous { matches, .. } = &error else { panic!("{error}") };
    assert_eq!(matches.len(), ssm_resolve::MAX_MATCHES);
    assert!(error.to_string().contains("more than 100 machines"), "{error}");
}

#[tokio::test]
async fn a_denied_call_names_the_missing_action() {
    // Two calls without authorisation: a user, and a key for it that may do nothing.
    let moto = Moto::start(Some(2)).await;
    moto.iam("Action=CreateUser&Version=2010-05-08&UserName=nobody").await;
    let answer = moto.iam("Action=CreateAccessKey&Version=2010-05-08&UserName=nobody").await;
    let element = |name: &str| {
        let (_, rest) = answer.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("{answer}"));
        rest.split('<').next().unwrap().to_owned()
    };
    let credentials = Credentials::from_keys(element("AccessKeyId"), element("SecretAccessKey"), None);
    let inventory = AwsInventory::load(moto.loader().credentials_provider(credentials)).await;
    let error = Chain::new().then(InstanceTag::new(inventory)).resolve(&target("web")).await.unwrap_err();
    assert_eq!(error.failure().unwrap().kind(), LookupErrorKind::AccessDenied, "{error}");
    assert!(error.to_string().contains("has to allow ec2:DescribeInstances"), "{error}");
}

#[tokio::test]
async fn a_key_that_nobody_knows_is_a_matter_of_credentials() {
    let moto = Moto::start(Some(0)).await;
    let chain = Chain::new().then(InstanceTag::new(moto.inventory().await));
    let error = chain.resolve(&target("web")).await.unwrap_err();
    assert_eq!(error.failure().unwrap().kind(), LookupErrorKind::Credentials, "{error}");
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_unreachable() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let inventory = AwsInventory::load(loader(address)).await;
    let error = Chain::new().then(InstanceTag::new(inventory)).resolve(&target("web")).await.unwrap_err();
    assert_eq!(error.failure().unwrap().kind(), LookupErrorKind::Unreachable, "{error}");
    assert!(error.is_temporary());
}

#[tokio::test]
async fn names_of_ecs_are_read_page_by_page_up_to_a_bound() {
    let page = |name: &str, more: &str| {
        format!(r#"{{"clusterArns":["arn:aws:ecs:eu-west-1:123456789012:cluster/{name}"]{more}}}"#)
    };
    let pages = vec![page("one", r#","nextToken":"more""#), page("two", "")];
    let (address, requests) = canned(pages.clone()).await;
    let listed = clusters(address).await.clusters(10).await.unwrap();
    assert_eq!((listed.names, listed.more), (vec!["one".into(), "two".into()], More::No));
    assert!(requests.lock().unwrap()[0].contains("AmazonEC2ContainerServiceV20141113.ListClusters"));
    assert!(requests.lock().unwrap()[1].contains(r#""nextToken":"more""#));
    let (address, _) = canned(pages).await;
    let listed = clusters(address).await.clusters(1).await.unwrap();
    assert_eq!((listed.names, listed.more), (vec!["one".into()], More::Maybe));
}

#[tokio::test]
async fn what_ecs_does_not_have_or_allow_has_its_kind() {
    for (code, kind) in [
        ("ClusterNotFoundException", Some(LookupErrorKind::NoSuchCluster)),
        ("AccessDeniedException", Some(LookupErrorKind::AccessDenied)),
        ("ServiceNotFoundException", None),
    ] {
        let answer = format!(r#"{{"__type":"{code}","message":"no"}}"#);
        let (address, _) = canned_status("400 Bad Request", vec![answer]).await;
        let listed = clusters(address).await.tasks("prod", Some("web"), 10).await;
        assert_eq!(listed.as_ref().err().map(|error| error.kind()), kind, "{listed:?}");
        if kind.is_none() {
            assert_eq!(listed.unwrap().names.len(), 0);
        }
    }
}

#[tokio::test]
async fn computer_names_are_looked_for_on_every_page() {
    let node = |id: &str, name: &str| {
        format!(
            r#"{{"InstanceId":"{id}","ComputerName":"{name}","PingStatus":"Online","IPAddress":"10.9.0.1"}}"#
        )
    };
    let first =
        format!(r#"{{"InstanceInformationList":[{}],"NextToken":"more"}}"#, node("i-00000001", "one.corp"));
    let second = format!(r#"{{"InstanceInformationList":[{}]}}"#, node("mi-00000002", "TWO.corp"));
    let (address, requests) = canned(vec![first, second]).await;
    let chain = Chain::new().then(ComputerName::new(AwsInventory::load(loader(address)).await));
    let resolved = chain.resolve(&target("two")).await.unwrap();
    assert_eq!(resolved.found.to_string(), "mi-00000002  TWO.corp  Online  10.9.0.1");
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 2);
    assert!(requests[0].contains(r#"{"Key":"PingStatus","Values":["Online"]}"#), "{}", requests[0]);
    assert!(requests[0].contains("AmazonSSM.DescribeInstanceInformation"), "{}", requests[0]);
    assert!(requests[1].contains(r#""NextToken":"more""#), "{}", requests[1]);
}

#[tokio::test]
async fn a_denied_list_of_nodes_names_the_missing_action() {
    let denied = r#"{"__type":"AccessDeniedException","Message":"User nobody is not authorized"}"#;
    let (address, _) = canned_status("400 Bad Request", vec![denied.into()]).await;
    let chain = Chain::new().then(ComputerName::new(AwsInventory::load(loader(address)).await));
    let error = chain.resolve(&target("two")).await.unwrap_err();
    assert_eq!(error.failure().unwrap().kind(), LookupErrorKind::AccessDenied, "{error}");
    assert!(error.to_string().contains("ssm:DescribeInstanceInformation"), "{error}");
}

/// A server of its own for each test, so that none sees another's instances.
struct Moto {
    address: SocketAddr,
    _process: Child,
}

impl Moto {
    /// `free_calls` is how many calls need no authorisation; without it none does.
    async fn start(free_calls: Option<u32>) -> Self {
        let program =
            env::var_os("SSM_TEST_MOTO").expect("SSM_TEST_MOTO is not set: run `cargo xtask setup`");
        let mut command = Command::new(program);
        command.args(["--host", "127.0.0.1", "--port", "0"]).env("PYTHONUNBUFFERED", "1").kill_on_drop(true);
        if let Some(calls) = free_calls {
            command.env("INITIAL_NO_AUTH_ACTION_COUNT", calls.to_string());
        }
        let mut process =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let started = tokio::time::timeout(PATIENCE, async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some((_, rest)) = line.split_once("Running on http://") {
                    return rest.trim().parse::<SocketAddr>().unwrap();
                }
            }
            panic!("moto ended without a word about its address");
        });
        let address = started.await.expect("moto starts");
        // A full pipe would stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { address, _process: process }
    }

    fn loader(&self) -> ConfigLoader {
        loader(self.address)
    }

    async fn inventory(&self) -> AwsInventory {
        AwsInventory::load(self.loader()).await
    }

    async fn ec2(&self) -> aws_sdk_ec2::Client {
        aws_sdk_ec2::Client::new(&self.loader().http_client(Builder::new().build_http()).load().await)
    }

    /// A call to IAM, which the SDK crates here do not have. Nobody verifies the signature.
    async fn iam(&self, body: &str) -> String {
        let scope = "Credential=test/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0";
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nAuthorization: AWS4-HMAC-SHA256 {scope}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            body.len(),
        );
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }
}

async fn clusters(address: SocketAddr) -> AwsClusters {
    AwsClusters::new(&loader(address).http_client(Builder::new().build_http()).load().await)
}

fn loader(address: SocketAddr) -> ConfigLoader {
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::from_keys("test", "test", None))
        .endpoint_url(format!("http://{address}"))
}

struct Machine {
    id: String,
    public: String,
}

async fn run(ec2: &aws_sdk_ec2::Client, address: &str, pairs: &[(&str, &str)]) -> Machine {
    let subnet = subnet(ec2).await;
    let call = ec2.run_instances().image_id(IMAGE).instance_type(InstanceType::T3Micro);
    let call = call.min_count(1).max_count(1).subnet_id(subnet).private_ip_address(address);
    let answer = call.tag_specifications(tags(pairs)).send().await.unwrap();
    let id = answer.instances()[0].instance_id().unwrap().to_owned();
    let described = ec2.describe_instances().instance_ids(&id).send().await.unwrap();
    let instance = &described.reservations()[0].instances()[0];
    Machine { id, public: instance.public_ip_address().unwrap_or_default().to_owned() }
}

/// A network of 10.0.1.0/24 whose machines have public addresses too, made on first use.
async fn subnet(ec2: &aws_sdk_ec2::Client) -> String {
    let known = ec2.describe_subnets().send().await.unwrap();
    if let Some(subnet) = known.subnets().iter().find(|subnet| subnet.cidr_block() == Some("10.0.1.0/24")) {
        return subnet.subnet_id().unwrap().to_owned();
    }
    let vpc = ec2.create_vpc().cidr_block("10.0.0.0/16").send().await.unwrap();
    let vpc = vpc.vpc().unwrap().vpc_id().unwrap().to_owned();
    let subnet = ec2.create_subnet().vpc_id(vpc).cidr_block("10.0.1.0/24").send().await.unwrap();
    let subnet = subnet.subnet().unwrap().subnet_id().unwrap().to_owned();
    let public = aws_sdk_ec2::types::AttributeBooleanValue::builder().value(true).build();
    let call = ec2.modify_subnet_attribute().subnet_id(&subnet).map_public_ip_on_launch(public);
    call.send().await.unwrap();
    subnet
}

fn tags(pairs: &[(&str, &str)]) -> TagSpecification {
    let tags = pairs.iter().map(|(key, value)| Tag::builder().key(*key).value(*value).build());
    TagSpecification::builder().resource_type(ResourceType::Instance).set_tags(Some(tags.collect())).build()
}

fn target(text: &str) -> Target {
    text.parse().unwrap()
}

/// A server that gives these answers, one for each connection, and keeps the requests. moto has no managed nodes.
async fn canned(answers: Vec<String>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    canned_status("200 OK", answers).await
}

async fn canned_status(status: &'static str, answers: Vec<String>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&requests);
    tokio::spawn(async move {
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let request = read_request(&mut socket).await;
            kept.lock().unwrap().push(request);
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                answer.len()
            );
            socket.write_all((head + &answer).as_bytes()).await.unwrap();
        }
    });
    (address, requests)
}

async fn read_request(socket: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head_lower = head.to_ascii_lowercase();
            let (_, len) = head_lower.split_once("content-length: ").unwrap();
            if body.len() >= len.lines().next().unwrap().parse::<usize>().unwrap() {
                return text;
            }
        }
        assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0, "a whole request");
    }
}

/// Any will do.
const IMAGE: &str = "ami-12c6146b";
