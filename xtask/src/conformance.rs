//! `cargo xtask conformance`: which test shows which item of the protocol's checklist.
//!
//! A test that shows an item has its number in front of its claim: `item_39_lost_ack_is_reacknowledged`, with several numbers for
//! several items. The sources are searched for such names; nothing is compiled. [`mutants`] shows that such tests can fail.

mod items;
mod mutants;
mod sample;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use items::{ITEMS, LAST, UNTESTED};
use mutants::Choice;

use crate::process::Failure;
use crate::workspace::Workspace;

/// `[--mutate [N | --item I]]`
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<(), Failure> {
    let survey = Survey::of(&workspace.root)?;
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            print!("{}", survey.table());
            survey.judge(&workspace.root)
        }
        ["--mutate"] => mutants::run(workspace, &survey, Choice::All),
        ["--mutate", count] => mutants::run(workspace, &survey, Choice::First(number(count)?)),
        ["--mutate", "--item", item] => mutants::run(workspace, &survey, Choice::Item(number(item)?)),
        _ => Err(Failure::new("conformance takes nothing, or --mutate [N | --item I]")),
    }
}

fn number(text: &str) -> Result<usize, Failure> {
    text.parse().map_err(|_| Failure::new("--mutate takes a whole number, and --item one"))
}

/// What `cargo xtask check` looks at.
pub(crate) fn check(workspace: &Workspace) -> Result<(), Failure> {
    let survey = Survey::of(&workspace.root)?;
    survey.judge(&workspace.root)
}

/// A test with numbers in its name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Test {
    name: String,
    items: Vec<usize>,
    /// The name without the numbers.
    claim: String,
    /// From the root of the workspace.
    file: PathBuf,
}

/// Every such test of the workspace, and what is wrong with their names.
#[derive(Debug, Default)]
struct Survey {
    tests: Vec<Test>,
    mistakes: Vec<String>,
}

impl Survey {
    fn of(root: &Path) -> Result<Self, Failure> {
        let mut files = Vec::new();
        collect(&root.join("crates"), &mut files)?;
        files.sort();
        let mut survey = Self::default();
        for file in files {
            let text = fs::read_to_string(&file).map_err(|error| unreadable(&file, &error))?;
            survey.read(file.strip_prefix(root).unwrap_or(&file), &text);
        }
        Ok(survey)
    }

    /// Takes in the tests of one file.
    fn read(&mut self, file: &Path, text: &str) {
        let mut attributes = Vec::new();
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[") {
                attributes.push(line);
                continue;
            }
            let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            if let Some(name) = function.filter(|function| function.starts_with("item_")) {
                let name = name.split(['(', '<']).next().unwrap_or_default();
                match Test::named(name, file) {
                    Ok(test) if is_run(&attributes) => self.tests.push(test),
                    Ok(_) => self.mistakes.push(format!("{}: {name} is not run as a test", file.display())),
                    Err(mistake) => self.mistakes.push(format!("{}: {name}: {mistake}", file.display())),
                }
            }
            if !line.starts_with("//") {
                attributes.clear();
            }
        }
    }

    fn test(&self, name: &str) -> Option<&Test> {
        self.tests.iter().find(|test| test.name == name)
    }

    fn of_item(&self, item: usize) -> impl Iterator<Item = &Test> {
        self.tests.iter().filter(move |test| test.items.contains(&item))
    }

    /// Every item with its tests, or why there is none.
    fn table(&self) -> String {
        let mut table = String::new();
        for (item, title) in (1..).zip(ITEMS) {
            table += &format!("{item:>3}  {title}\n");
            if let Some(reason) = reason(item) {
                table += &format!("       none: {reason}\n");
            }
            for test in self.of_item(item) {
                table += &format!("       {}  {}\n", test.place(), test.name);
            }
        }
        let tested = (1..=LAST).filter(|item| self.of_item(*item).next().is_some()).count();
        table + &format!("{tested} of {LAST} items are shown by {} tests\n", self.tests.len())
    }

    /// # Errors
    /// With everything that is wrong: names, items without a test, and the list of mutations.
    fn judge(&self, root: &Path) -> Result<(), Failure> {
        let mut mistakes = self.mistakes.clone();
        let mut claims = BTreeMap::new();
        for test in &self.tests {
            if let Some(other) = claims.insert(&test.claim, test) {
                mistakes.push(format!("{} and {} make one claim", other.name, test.name));
            }
        }
        for item in 1..=LAST {
            match (self.of_item(item).next(), reason(item)) {
                (None, None) => mistakes.push(format!("item {item} ({}) has no test", ITEMS[item - 1])),
                (Some(test), Some(_)) => {
                    mistakes
                        .push(format!("item {item} has a test, {}, and a reason for having none", test.name));
                }
                _ => {}
            }
        }
        mistakes.extend(mutants::mistakes(root, self));
        if mistakes.is_empty() { Ok(()) } else { Err(Failure::new(mistakes.join("\n"))) }
    }
}

impl Test {
    /// Reads `item_NN_claim` or `item_NN_NN_claim`.
    fn named(name: &str, file: &Path) -> Result<Self, String> {
        let mut rest = name.strip_prefix("item_").unwrap_or(name);
        let mut items = Vec::new();
        while let Some((number, behind)) = rest.split_once('_')
            && let Ok(item) = number.parse()
        {
            if !(1..=LAST).contains(&item) {
                return Err(format!("there is no item {item}"));
            }
            items.push(item);
            rest = behind;
        }
        if items.is_empty() || rest.is_empty() || rest.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("it is not item_NUMBER_CLAIM".into());
        }
        Ok(Self { name: name.into(), items, claim: rest.into(), file: file.into() })
    }

    /// Crate, and file in it.
    fn place(&self) -> String {
        let inside: PathBuf = self.file.components().skip(2).collect();
        format!("{:<12}  {:<34}", self.package(), inside.display())
    }

    fn package(&self) -> String {
        let name = self.file.components().nth(1);
        name.map(|part| part.as_os_str().to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The integration test it is in; `None` for the tests of the library.
    fn integration(&self) -> Option<String> {
        let mut parts = self.file.components().skip(2);
        if parts.next()?.as_os_str() != "tests" {
            return None;
        }
        let part = Path::new(parts.next()?.as_os_str());
        Some(part.file_stem()?.to_string_lossy().into_owned())
    }
}

/// Why an item has no test.
fn reason(item: usize) -> Option<&'static str> {
    UNTESTED.iter().find(|(untested, _)| *untested == item).map(|(_, reason)| *reason)
}

/// Whether a function with these attributes is run by `cargo test`.
fn is_run(attributes: &[&str]) -> bool {
    let is_test = |line: &&str| {
        line.starts_with("#[test]")
            || line.starts_with("#[tokio::test]")
            || line.starts_with("#[tokio::test(")
    };
    attributes.iter().any(is_test) && !attributes.iter().any(|line| line.starts_with("#[ignore"))
}

/// The Rust sources in and below a folder.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(text: &str) -> Survey {
        let mut survey = Survey::default();
        survey.read(Path::new("crates/ssm-x/tests/sim/loss.rs"), text);
        survey
    }

    #[test]
    fn numbers_stand_in_front_of_the_claim() {
        let found = survey("#[test]\nfn item_9_10_three_2_one() {\n");
        let [test] = &found.tests[..] else { panic!("{found:?}") };
        assert_eq!((&test.items[..], &*test.claim), (&[9, 10][..], "three_2_one"));
        assert_eq!((test.package(), test.integration()), ("ssm-x".into(), Some("sim".into())));
    }

    #[test]
    fn what_does_not_run_or_has_no_number_is_a_mistake() {
        for text in [
            "fn item_9_helper() {",
            "#[test]\n#[ignore = \"slow\"]\nfn item_9_slow() {",
            "#[test]\nfn item_110_too_far() {",
            "#[test]\nfn item_0_too_near() {",
            "#[test]\nfn item_claim() {",
            "#[test]\nfn item_9_() {",
        ] {
            let found = survey(text);
            assert!(found.tests.is_empty() && found.mistakes.len() == 1, "{text}: {found:?}");
        }
        let fine = "#[tokio::test(flavor = \"multi_thread\")]\n// Why.\nasync fn item_9_claim() {";
        assert!(survey(fine).mistakes.is_empty());
    }

    #[test]
    fn an_item_without_a_test_and_a_claim_made_twice_are_named() {
        let found = survey("#[test]\nfn item_9_same() {\n}\n#[test]\nfn item_10_same() {\n");
        let error = found.judge(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error.contains("item_9_same and item_10_same make one claim"), "{error}");
        assert!(error.contains("item 11 (") && !error.contains("item 10 ("), "{error}");
    }
}
