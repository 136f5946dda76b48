//! `ssm list`

use std::process::ExitCode;

use crate::args::ListArgs;
use crate::config::Config;
use crate::error::Error;

/// Runs the command.
#[cfg(not(feature = "lookup"))]
#[expect(clippy::unused_async, reason = "the other one waits")]
pub(crate) async fn run(_: ListArgs, _: &Config) -> Result<ExitCode, Error> {
    Err(Error::NeedsAws("ssm list"))
}

#[cfg(feature = "lookup")]
pub(crate) use with_lookup::run;

#[cfg(feature = "lookup")]
mod with_lookup {
    use aws_sdk_ssm::primitives::{DateTime, DateTimeFormat};
    use serde_json::json;
    use ssm_resolve::{Match, Node, NodeFilter, NodePages};

    use super::{Config, Error, ExitCode, ListArgs};
    use crate::cache;
    use crate::lookup;
    use crate::options;
    use crate::output::{Reader, say};
    use crate::process::Signals;
    use crate::table::{Form, Rows};

    /// Names that are remembered for completing them.
    const NAMES_KEPT: usize = 500;

    const HEAD: [&str; 7] = ["ID", "NAME", "STATE", "PING", "AGENT", "PLATFORM", "ADDRESS"];

    /// Runs the command.
    pub(crate) async fn run(mut args: ListArgs, config: &Config) -> Result<ExitCode, Error> {
        config.fill(None, &mut args.connection);
        let (asked, own) = filters(&args);
        let mut signals = Signals::take().map_err(Error::local("cannot watch for signals"))?;
        tokio::select! {
            biased;
            listed = list(&args, &asked, &own) => listed?,
            signal = signals.next() => return Err(Error::Left(signal)),
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn list(args: &ListArgs, asked: &[NodeFilter], own: &[(Property, Pattern)]) -> Result<(), Error> {
        let account = options::account(&args.connection).await?;
        let mut pages = lookup::inventory(&account, &args.connection).node_pages(asked)?;
        let mut rows = Rows::new(HEAD, Form::of(args.json), "machines");
        let mut names: Vec<(String, Match)> = Vec::new();
        let (mut seen, mut shown) = (0, 0);
        while let Some(page) = next_page(&mut pages, &rows).await {
            let page = page?;
            seen += page.len();
            for node in page.iter().filter(|node| own.iter().all(|(of, pattern)| pattern.fits(of.of(node)))) {
                shown += 1;
                if names.len() < NAMES_KEPT {
                    names.extend(name(node));
                }
                if rows.add(|| row(node), || to_json(node))? == Reader::Gone {
                    return Ok(());
                }
            }
            rows.looked_at(seen);
        }
        rows.finish()?;
        if shown == 0 {
            say("no machines");
        }
        cache::keep_names(names, &args.connection);
        Ok(())
    }

    /// The next page. Says once that there are no names.
    async fn next_page(
        pages: &mut NodePages,
        rows: &Rows<7>,
    ) -> Option<Result<Vec<Node>, ssm_resolve::LookupError>> {
        let known = pages.names_missing().is_none();
        let page = pages.next_page().await;
        if let (true, Some(error)) = (known, pages.names_missing()) {
            rows.suspend(|| say(format_args!("without names and states of instances: {error}")));
        }
        page
    }

    /// What the API filters, and what is filtered here.
    fn filters(args: &ListArgs) -> (Vec<NodeFilter>, Vec<(Property, Pattern)>) {
        let values = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let mut asked = Vec::new();
        let mut own = Vec::new();
        if args.online {
            asked.push(NodeFilter { key: "PingStatus".into(), values: vec!["Online".into()] });
        }
        if let Some(platform) = args.platform {
            asked.push(NodeFilter { key: "PlatformTypes".into(), values: vec![platform.as_str().into()] });
        }
        asked.extend(args.tag.iter().map(|tag| {
            // A value may have a comma.
            NodeFilter { key: format!("tag:{}", tag.key), values: vec![tag.value.clone()] }
        }));
        for filter in &args.filter {
            match Property::named(&filter.key) {
                Some(property) => own.push((property, Pattern(values(&filter.value)))),
                None => asked.push(NodeFilter { key: filter.key.clone(), values: values(&filter.value) }),
            }
        }
        (asked, own)
    }

    /// What the API cannot filter by.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Property {
        /// Either name.
        Name,
        State,
        Address,
    }

    impl Property {
        fn named(key: &str) -> Option<Self> {
            Some(match key {
                "name" => Self::Name,
                "state" => Self::State,
                "address" => Self::Address,
                _ => return None,
            })
        }

        fn of(self, node: &Node) -> [Option<&str>; 2] {
            match self {
                Self::Name => [node.name.as_deref(), node.computer_name.as_deref()],
                Self::State => [node.state.as_deref(), None],
                Self::Address => [node.address.as_deref(), None],
            }
        }
    }

    /// Texts in which `*` stands for any characters and `?` for one; letters of either case are the same.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Pattern(Vec<String>);

    impl Pattern {
        fn fits(&self, texts: [Option<&str>; 2]) -> bool {
            texts.into_iter().flatten().any(|text| self.0.iter().any(|pattern| fits(pattern, text)))
        }
    }

    /// In time proportional to both lengths at worst: only the last star is gone back to.
    fn fits(pattern: &str, text: &str) -> bool {
        let fold = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<char>>();
        let (pattern, text) = (fold(pattern), fold(text));
        let (mut at, mut read) = (0, 0);
        let mut star = None;
        while read < text.len() {
            match pattern.get(at) {
                Some('*') => {
                    star = Some((at, read));
                    at += 1;
                }
                Some(wanted) if *wanted == '?' || *wanted == text[read] => {
                    at += 1;
                    read += 1;
                }
                _ => match &mut star {
                    Some((behind, from)) => {
                        *from += 1;
                        (at, read) = (*behind + 1, *from);
                    }
                    None => return false,
                },
            }
        }
        pattern[at..].iter().all(|char| *char == '*')
    }

    fn row(node: &Node) -> [String; 7] {
        let platform = match (&node.platform, &node.platform_version) {
            (Some(name), Some(version)) => format!("{name} {version}"),
            (name, _) => name.clone().or_else(|| node.platform_type.clone()).unwrap_or_default(),
        };
        let agent = match (&node.agent_version, node.agent_latest) {
            (Some(version), Some(false)) => format!("{version} (old)"),
            (version, _) => version.clone().unwrap_or_default(),
        };
        [
            node.target.to_string(),
            node.name.clone().or_else(|| node.computer_name.clone()).unwrap_or_default(),
            node.state.clone().unwrap_or_default(),
            node.ping.clone().unwrap_or_default(),
            agent,
            platform,
            node.address.clone().unwrap_or_default(),
        ]
    }

    fn to_json(node: &Node) -> serde_json::Value {
        let last_ping =
            node.last_ping.and_then(|time| DateTime::from(time).fmt(DateTimeFormat::DateTime).ok());
        json!({
            "id": node.target,
            "name": node.name,
            "computer_name": node.computer_name,
            "state": node.state,
            "ping": node.ping,
            "last_ping": last_ping,
            "agent_version": node.agent_version,
            "agent_latest": node.agent_latest,
            "platform": node.platform,
            "platform_type": node.platform_type,
            "platform_version": node.platform_version,
            "address": node.address,
        })
    }

    /// What a command line can be completed with: names that a lookup finds.
    fn name(node: &Node) -> Option<(String, Match)> {
        let name = node.name.as_ref().or(node.computer_name.as_ref()).filter(|_| node.is_online())?;
        Some((name.clone(), Match::from(node.target.clone())))
    }

    #[cfg(test)]
    mod tests {
        use clap::Parser as _;

        use super::*;
        use crate::args::{Args, Command};

        #[test]
        fn stars_and_question_marks_stand_for_characters() {
            for (pattern, text) in [
                ("web-1", "web-1"),
                ("WEB-*", "web-1"),
                ("*", ""),
                ("w?b*1", "web-a-1"),
                ("*a*b*", "xaxbx"),
                ("größe*", "Größe 1"),
            ] {
                assert!(fits(pattern, text), "{pattern} {text}");
            }
            for (pattern, text) in [("web", "web-1"), ("w?b", "wb"), ("*a*b", "xbxa"), ("", "x")] {
                assert!(!fits(pattern, text), "{pattern} {text}");
            }
            // Would take for ever if every star were gone back to.
            assert!(!fits(&"*a".repeat(60), &"a".repeat(59)));
        }

        #[test]
        fn what_the_api_can_filter_is_left_to_it() {
            let line = "ssm list --online --platform macos --tag Role=a,b --filter name=web-*,db --filter AgentVersion=3.1,3.2";
            let Ok(Args { command: Command::List(args), .. }) = Args::try_parse_from(line.split(' ')) else {
                panic!("not read as a list");
            };
            let (asked, own) = filters(&args);
            let asked: Vec<_> =
                asked.iter().map(|filter| (filter.key.as_str(), filter.values.join("|"))).collect();
            let expected = [
                ("PingStatus", "Online"),
                ("PlatformTypes", "MacOS"),
                ("tag:Role", "a,b"),
                ("AgentVersion", "3.1|3.2"),
            ];
            assert_eq!(asked, expected.map(|(key, values)| (key, values.to_owned())));
            assert_eq!(own, [(Property::Name, Pattern(vec!["web-*".into(), "db".into()]))]);
        }
    }
}
