//! `ssm db`: moto plays RDS, ElastiCache, EC2 and Secrets Manager, the loopback Systems Manager and the bastion. The databases are
//! real, and only the bastion knows their names.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::postgres::Postgres;
use crate::redis::Redis;
use crate::support::moto::Moto;
use crate::support::process::{Process, run};
use crate::support::system::installed;
use crate::support::tmux::Tmux;
use crate::support::{Loopback, SSM};

/// What moto makes of every database's master user.
const PASSWORD: &str = "P@55w0rd!";

/// The loopback's.
const REGION: &str = "us-east-1";

/// Where moto says an instance of this id is.
fn address(id: &str) -> String {
    format!("{id}.aaaaaaaaaa.{REGION}.rds.amazonaws.com")
}

/// An account with a bastion, and PostgreSQL behind it as `prod-orders`.
struct World {
    moto: Moto,
    loopback: Loopback,
    server: Postgres,
    bastion: String,
}

impl World {
    fn start() -> Self {
        Self::with(&[], &["--manage-master-user-password"])
    }

    /// With more arguments for the loopback, and for the making of the database.
    fn with(loopback: &[&str], instance: &[&str]) -> Self {
        let (moto, server) = (Moto::start(), Postgres::start());
        let bastion = moto.run_instances_in(REGION, "the-bastion", 1).remove(0);
        let names = [address("prod-orders")];
        let args = [&["--target", bastion.as_str()], loopback].concat();
        let loopback = Loopback::with_names(&args, &[names[0].as_str()]);
        let world = Self { moto, loopback, server, bastion };
        world.create("prod-orders", "postgres", world.server.port, instance);
        world
    }

    fn create(&self, id: &str, engine: &str, port: u16, more: &[&str]) {
        let mut aws = self.aws();
        aws.args(["rds", "create-db-instance", "--db-instance-identifier", id, "--engine", engine]);
        aws.args([
            "--db-instance-class",
            "db.t3.micro",
            "--allocated-storage",
            "20",
            "--master-username",
            "admin",
        ]);
        run(aws.args(["--db-name", "postgres", "--port", &port.to_string()]).args(more));
    }

    fn secret(&self, name: &str, text: &str) {
        let mut aws = self.aws();
        run(aws.args(["secretsmanager", "create-secret", "--name", name, "--secret-string", text]));
    }

    fn aws(&self) -> Command {
        let mut aws = self.moto.command(installed("SSM_TEST_AWS"));
        // For the RDS of this region the CLI does not heed AWS_ENDPOINT_URL.
        aws.args(["--region", REGION, "--endpoint-url", &self.moto.endpoint]);
        aws
    }

    /// `ssm` with these arguments: sessions are the loopback's, everything else is moto's.
    fn ssm(&self, args: &[&str]) -> Command {
        let mut command = self.loopback.command(SSM);
        for service in ["EC2", "RDS", "ELASTICACHE", "SECRETS_MANAGER"] {
            command.env(format!("AWS_ENDPOINT_URL_{service}"), &self.moto.endpoint);
        }
        command.args(args);
        command
    }

    fn configure(&self, text: &str) -> String {
        let path = self.loopback.home().join("config.toml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn psql(&self) -> String {
        self.server.program("psql").to_str().unwrap().to_owned()
    }

    /// What a failing command says.
    fn refusal(&self, args: &[&str]) -> String {
        let mut process = Process::spawn(&mut self.ssm(args));
        assert_eq!(process.wait().code(), Some(255), "{}", process.stderr());
        assert_eq!(process.stdout(), "");
        process.stderr()
    }
}

#[test]
fn a_command_logs_in_with_the_secret_that_rds_keeps_and_nobody_sees_it() {
    let world = World::start();
    world.server.add_user("admin", PASSWORD);
    let script = format!(
        "{} -XAtc 'select current_user, current_database()' && cat /proc/[0-9]*/cmdline | tr '\\0' ' '",
        world.psql()
    );
    let mut process = Process::spawn(
        &mut world.ssm(&["-vv", "db", "orders", "--engine", "postgres", "--", "sh", "-c", &script]),
    );
    assert_eq!(process.wait().code(), Some(0), "{}", process.stderr());
    assert!(process.stdout().starts_with("admin|postgres\n"), "{}", process.stdout());
    assert!(process.stdout().contains("db orders --engine postgres -- sh -c"), "{}", process.stdout());
    for (what, text) in [("command lines", process.stdout()), ("log", process.stderr())] {
        assert!(!text.contains(PASSWORD), "the password is among the {what}: {text}");
    }
    assert!(
        process.stderr().contains("the password is from the secret arn:aws:secretsmanager:"),
        "{}",
        process.stderr()
    );
}

#[test]
fn a_connection_string_without_password_is_all_that_stdout_gets() {
    let world = World::start();
    world.server.add_user("admin", PASSWORD);
    let tools = world.loopback.home().join("tools");
    fs::create_dir(&tools).unwrap();
    let copied = world.loopback.home().join("copied");
    program(&tools.join("wl-copy"), &format!("#!/bin/sh\n[ $# = 0 ] && cat > {}\n", copied.display()));
    let mut command = world.ssm(&["db", "prod-orders", "--engine", "postgres", "--copy"]);
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let mut process = Process::spawn(command.env("PATH", path).env("WAYLAND_DISPLAY", "wayland-0"));
    let url = until_url(&process);
    let port =
        url.strip_prefix("postgresql://admin@localhost:").and_then(|rest| rest.strip_suffix("/postgres"));
    let port: u16 = port.unwrap_or_else(|| panic!("{url}")).parse().unwrap();
    assert_eq!(fs::read_to_string(copied).unwrap(), PASSWORD);
    for host in ["127.0.0.1", "localhost"] {
        let mut psql = Command::new(world.psql());
        psql.args(["-X", "-At", "-c", "select 6 * 7", &url.replace("localhost", host)])
            .env("PGPASSWORD", PASSWORD);
        assert_eq!(run(&mut psql), "42\n");
    }
    let taken =
        world.refusal(&["db", "prod-orders", "--engine", "postgres", "--local-port", &port.to_string()]);
    assert!(taken.contains(&format!("cannot listen on localhost:{port}: the port is in use")), "{taken}");
    process.signal(Signal::INT);
    assert_eq!(process.wait().code(), Some(0), "{}", process.stderr());
    assert_eq!(process.stdout(), format!("{url}\n"));
    assert!(!process.stderr().contains(PASSWORD), "{}", process.stderr());
}

#[test]
fn a_token_of_iam_is_what_botocore_makes_and_the_name_of_the_server_is_verified() {
    let world = World::with(&[], &["--enable-iam-database-authentication"]);
    let script = "echo $PGPASSWORD; echo $PGSSLMODE $PGUSER $SSM_DB_HOST:$SSM_DB_PORT";
    let output = run(&mut world
        .ssm(&["db", "orders", "--engine", "postgres", "--iam", "--user", "app", "--", "sh", "-c", script]));
    let (token, rest) = output.split_once('\n').unwrap();
    let host = format!("{}:{}", address("prod-orders"), world.server.port);
    assert_eq!(rest, format!("require app {host}\n"));
    let parts = |token: &str| {
        let (host, query) = token.split_once("/?").unwrap();
        (host.to_owned(), query.split('&').map(str::to_owned).collect::<BTreeSet<String>>())
    };
    let date = token.split('&').find_map(|part| part.strip_prefix("X-Amz-Date=")).unwrap();
    let botocore = "import datetime, sys, botocore.auth, botocore.session\n\
        date = datetime.datetime.strptime(sys.argv[1], '%Y%m%dT%H%M%SZ')\n\
        botocore.auth.get_current_datetime = lambda *a, **k: date\n\
        rds = botocore.session.get_session().create_client('rds')\n\
        print(rds.generate_db_auth_token(DBHostname=sys.argv[2], Port=int(sys.argv[3]), DBUsername='app'))";
    let mut python = world.loopback.command(installed("SSM_TEST_AWS").with_file_name("python"));
    python.args(["-c", botocore, date, &address("prod-orders"), &world.server.port.to_string()]);
    assert_eq!(parts(token), parts(run(&mut python).trim()));

    let authority = world.server.show_certificate(&address("prod-orders"));
    let statement = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let psql = world.psql();
    let verified = |mode: &str, authority: &Path| {
        let args =
            ["db", "orders", "--engine", "postgres", "--user", "tester", "--", &psql, "-XAtc", statement];
        let mut command = world.ssm(&args);
        Process::spawn(command.env("PGSSLMODE", mode).env("PGSSLROOTCERT", authority))
    };
    assert_eq!(verified("verify-full", &authority).success(), "t\n");
    let other = rcgen::generate_simple_self_signed(vec![address("prod-orders")]).unwrap().cert.pem();
    let other_path = world.loopback.home().join("other.pem");
    fs::write(&other_path, other).unwrap();
    let mut refused = verified("verify-full", &other_path);
    assert_eq!(refused.wait().code(), Some(2), "{}", refused.stderr());
    assert!(refused.stderr().contains("certificate"), "{}", refused.stderr());
}

#[test]
fn a_database_stays_in_the_background_and_belongs_to_a_group() {
    let world = World::start();
    world.server.add_user("app", "s3cr3t word");
    world.secret("orders/app", &json!({ "username": "app", "password": "s3cr3t word" }).to_string());
    let config = world.configure(
        "[db.orders]\ninstance = 'orders'\nengine = 'postgres'\nsecret = 'orders/'\n[group.dev]\ntunnels = ['orders']\n",
    );
    let url = run(&mut world.ssm(&["--config", &config, "db", "orders", "--wait=60s"]));
    assert!(url.starts_with("postgresql://app@localhost:") && url.ends_with("/postgres\n"), "{url}");
    let query = || {
        let tunnels = run(&mut world.ssm(&["tunnels", "--json"]));
        let tunnel: Value = serde_json::from_str(tunnels.lines().next().unwrap()).unwrap();
        let port = tunnel["forwards"][0]["port"].to_string();
        let mut psql = Command::new(world.psql());
        psql.args([
            "-X",
            "-At",
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "app",
            "-c",
            "select current_user",
            "postgres",
        ]);
        assert_eq!(run(psql.env("PGPASSWORD", "s3cr3t word")), "app\n");
        tunnel
    };
    assert_eq!(query()["target"], world.bastion.as_str());
    // Its session is remembered for `ssm sessions orphans` for as long as it is open.
    let folder = world.loopback.home().join(".local/state/ssm/sessions");
    let remembered = || fs::read_dir(&folder).unwrap().count();
    assert_eq!(remembered(), 1);
    run(&mut world.ssm(&["tunnels", "stop", "--all"]));
    assert_eq!(remembered(), 0);

    run(&mut world.ssm(&["--config", &config, "up", "dev"]));
    assert_eq!(query()["name"], "dev/orders");
    run(&mut world.ssm(&["down", "dev"]));
    assert_eq!(run(&mut world.ssm(&["tunnels", "--json"])), "");
}

#[test]
fn a_bastion_that_is_starting_is_waited_for_as_long_as_the_user_has_time() {
    let world = World::with(&["--connected-after", "15s"], &[]);
    let impatient = world.refusal(&["db", "orders", "--engine", "postgres", "--bastion-wait", "1s"]);
    assert!(
        impatient.contains(&format!("bastion {} was not connected within 1 s", world.bastion)),
        "{impatient}"
    );
    let psql = world.psql();
    let through =
        ["db", "orders", "--engine", "postgres", "--user", "tester", "--", &psql, "-XAtc", "select 1"];
    let mut process = Process::spawn(&mut world.ssm(&through));
    process.until_says(&format!(
        "bastion {} is not connected to Systems Manager; waiting for it",
        world.bastion
    ));
    assert_eq!(process.wait().code(), Some(0), "{}", process.stderr());
    assert_eq!(process.stdout(), "1\n");
    assert!(
        process.stderr().contains(&format!("bastion {} is connected", world.bastion)),
        "{}",
        process.stderr()
    );
}

#[test]
fn a_dead_bastion_is_replaced_only_when_that_is_agreed_to() {
    let world = World::start();
    // The loopback knows the new one only.
    let dead = world.moto.run_instances_in(REGION, "dead", 1).remove(0);
    let tag = |id: &str, name: &str| {
        let tags = format!("Key=Name,Value={name}");
        run(world.aws().args(["ec2", "create-tags", "--resources", id, "--tags", &tags]));
    };
    let state = || {
        let query = "Reservations[0].Instances[0].State.Name";
        let mut aws = world.aws();
        aws.args([
            "ec2",
            "describe-instances",
            "--instance-ids",
            &dead,
            "--query",
            query,
            "--output",
            "text",
        ]);
        run(&mut aws).trim().to_owned()
    };
    tag(&world.bastion, "spare");
    tag(&dead, "dead-bastion");
    let psql = world.psql();
    let through = [
        "db",
        "orders",
        "--engine",
        "postgres",
        "--user",
        "tester",
        "--bastion",
        "tag:Name=*bastion",
        "--replace-bastion",
    ];
    let mut asked = Process::spawn(&mut world.ssm(&through));
    assert_eq!(asked.wait().code(), Some(2), "{}", asked.stderr());
    assert!(
        asked.stderr().contains(&format!("would terminate {dead} and has nobody to ask")),
        "{}",
        asked.stderr()
    );
    assert_eq!(state(), "running");

    let agreed = [&through[..], &["--yes", "--", &psql, "-XAtc", "select 1"]].concat();
    let mut process = Process::spawn(&mut world.ssm(&agreed));
    process.until_says(&format!("bastion {dead} was terminated"));
    tag(&world.bastion, "new-bastion");
    assert_eq!(process.wait().code(), Some(0), "{}", process.stderr());
    assert_eq!(process.stdout(), "1\n");
    assert!(
        process.stderr().contains(&format!("bastion {} is connected", world.bastion)),
        "{}",
        process.stderr()
    );
    assert_eq!(state(), "terminated");
}

#[test]
fn a_cache_is_found_and_spoken_to() {
    let (world, redis) = (World::start(), Redis::start());
    let mut aws = world.aws();
    aws.args([
        "elasticache",
        "create-replication-group",
        "--replication-group-id",
        "web-sessions",
        "--engine",
        "redis",
    ]);
    aws.args(["--replication-group-description", "x", "--port", &redis.port.to_string(), "--output", "json"]);
    let group: Value = serde_json::from_str(&run(&mut aws)).unwrap();
    let node = &group["ReplicationGroup"]["NodeGroups"][0]["PrimaryEndpoint"];
    let host = node["Address"].as_str().unwrap();
    // The names of caches are made up when they are: another bastion knows this one.
    let loopback = Loopback::with_names(&["--target", &world.bastion], &[host]);
    let world = World { loopback, ..world };
    let pong = ["db", "sessions", "--engine", "redis", "--", "redis-cli", "-p", "{port}", "ping"];
    assert_eq!(run(&mut world.ssm(&pong)), "PONG\n");
    let listed = run(&mut world.ssm(&["db", "list", "--json"]));
    let ids = listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let ids: Vec<String> = ids.map(|line| format!("{} {}", line["kind"], line["id"])).collect();
    assert_eq!(ids, ["\"instance\" \"prod-orders\"", "\"replication-group\" \"web-sessions\""]);
    let table = run(&mut world.ssm(&["db", "list", "--engine", "postgres"]));
    assert!(table.contains("prod-orders  instance  postgres  available"), "{table}");
}

#[test]
fn what_is_in_the_way_is_told() {
    let world = World::start();
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    world.create("stage-orders", "mysql", port, &[]);
    let several = world.refusal(&["db", "orders"]);
    assert!(several.contains("'orders' means 2 databases; give the id of one"), "{several}");
    for id in ["instance prod-orders  postgres  available", "instance stage-orders  mysql  available"] {
        assert!(several.contains(&format!("\nssm:   {id}\n")), "{several}");
    }
    let none = world.refusal(&["db", "nowhere"]);
    assert!(none.contains("there is no database for 'nowhere'"), "{none}");
    let no_reader = world.refusal(&["db", "prod-orders", "--reader"]);
    assert!(no_reader.contains("it has no endpoint for readers"), "{no_reader}");
    let no_bastion = world.refusal(&["db", "prod-orders", "--bastion", "tag:Name=jump"]);
    assert!(
        no_bastion.contains("there is no bastion: no running instance has the tag Name=jump"),
        "{no_bastion}"
    );
    world.moto.run_instances_in(REGION, "other-bastion", 1);
    let secrets = ["secret/a", "secret/b"];
    world.secret(secrets[0], "hunter2");
    world.secret(secrets[1], &json!({ "username": "hunter2" }).to_string());
    let with = |secret: &str| {
        world.refusal(&[
            "db",
            "prod-orders",
            "--bastion",
            &world.bastion,
            "--secret",
            secret,
            "--local-port",
            "0",
        ])
    };
    for (secret, told) in [
        ("secret/a", "the secret secret/a is no object of JSON with username and password"),
        ("secret/b", "the secret secret/b has no field password"),
        ("secret/", "the names of 2 secrets begin with secret/"),
        ("other", "there is no secret other, and none whose name begins like that"),
    ] {
        let said = with(secret);
        assert!(said.contains(told) && !said.contains("hunter2"), "{said}");
    }
    let no_password = world.refusal(&["db", "stage-orders", "--bastion", &world.bastion, "--copy"]);
    assert!(
        no_password.contains("there is no password for stage-orders: no secret is known"),
        "{no_password}"
    );
}

#[test]
fn what_was_chosen_is_found_by_its_name_from_then_on() {
    let world = World::start();
    world.server.add_user("admin", PASSWORD);
    let config = world.configure("# mine\n");
    let who = format!("{} -XAtc 'select current_user'", world.psql());
    let words = [
        "db",
        "orders",
        "--config",
        &config,
        "--engine",
        "postgres",
        "--bastion",
        "tag:Name=the-b*",
        "--save",
        "mine",
    ];
    assert_eq!(run(&mut world.ssm(&[&words[..], &["--", "sh", "-c", &who]].concat())), "admin\n");
    assert_eq!(
        fs::read_to_string(&config).unwrap(),
        format!(
            "# mine\n\n[db.mine]\ninstance = \"prod-orders\"\nbastion = \"tag:Name=the-b*\"\nregion = \"{REGION}\"\n"
        ),
    );
    assert_eq!(run(&mut world.ssm(&["db", "mine", "--config", &config, "--", "sh", "-c", &who])), "admin\n");
    let mut again = Process::spawn(&mut world.ssm(&words));
    assert_eq!(again.wait().code(), Some(2), "{}", again.stderr());
    assert!(
        again.stderr().contains("has a [db.mine] already: take another name, or edit it"),
        "{}",
        again.stderr()
    );
    let script = run(&mut world.ssm(&["completions", "bash", "--config", &config]));
    assert!(script.contains("mine prod-orders"), "both names of it are completed: {script}");
}

#[test]
fn who_has_chosen_a_database_for_the_first_time_can_give_it_a_name() {
    let world = World::start();
    world.create("stage-orders", "postgres", 5432, &[]);
    let config = world.loopback.home().join(".config/ssm/config.toml");
    let tmux = Tmux::start(&world.ssm(&[]), world.loopback.home(), (110, 24));
    tmux.line(&format!("{SSM} db -- sh -c 'echo da''ta=$SSM_DB_HOST'"));
    tmux.until("the list", |screen| screen.contains("stage-orders"));
    tmux.text("prod");
    tmux.until("one database", |screen| screen.contains("prod-orders") && !screen.contains("stage-orders"));
    tmux.key("Enter");
    tmux.until("the question", |screen| screen.contains("a name to find this by"));
    tmux.line("mine");
    tmux.until("the database", |screen| screen.contains(&format!("data={}", address("prod-orders"))));
    let saved = fs::read_to_string(&config).unwrap();
    assert_eq!(saved, format!("[db.mine]\ninstance = \"prod-orders\"\nregion = \"{REGION}\"\n"));
}

fn until_url(process: &Process) -> String {
    process.until("the connection string", |text| {
        let (line, _) = text.split_once('\n')?;
        line.contains("://").then(|| line.to_owned())
    })
}

fn program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
