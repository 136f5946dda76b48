//! The decisions of a chain, without the lookups: [`Search`] is told the answers and says who is next.

use std::collections::BTreeSet;
use std::fmt;

use crate::text::visible;
use crate::{Answer, LookupError, LookupErrorKind, Match, Matches, More, SessionTarget, Several, Target};

/// The machine a target stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resolved {
    /// The machine, with what the step knew about it.
    pub found: Match,
    /// The step that answered; none for an id.
    pub step: Option<String>,
}

impl Resolved {
    /// What a search of one's own has found, and the step that answered.
    pub fn new(found: Match, step: Option<String>) -> Self {
        Self { found, step }
    }

    /// What a session is started on.
    pub fn target(&self) -> &SessionTarget {
        &self.found.target
    }
}

/// A search with its result and what each step said.
///
/// [`Display`](fmt::Display) is a line for each step, then the result.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// What each step said, in the order of the chain.
    pub attempts: Vec<Attempt>,
    /// The machine, or why there is none.
    pub result: Result<Resolved, ResolveError>,
}

/// What one step said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The step.
    pub step: String,
    /// What was looked up, if an alias stands for it.
    pub alias: Option<Target>,
    /// What it said.
    pub outcome: Outcome,
}

/// What a step said, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// One machine, or several.
    Found(Vec<Match>),
    /// The name stands for this target.
    Alias(Target),
    /// There is no such machine.
    Nothing,
    /// It does not look up such targets.
    NotMine,
    /// It could not be asked.
    Failed(LookupError),
    /// An earlier step had answered.
    NotAsked,
}

/// Why there is no machine to start a session on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// No step found one.
    #[error("{}", not_found(target, attempts))]
    NotFound {
        /// What the user wrote.
        target: Box<Target>,
        /// What each step said.
        attempts: Vec<Attempt>,
    },
    /// There are several, and nothing says which is meant.
    #[error("{}", ambiguous(target, matches, *more))]
    Ambiguous {
        /// What the user wrote.
        target: Box<Target>,
        /// The machines, at most as many as the lookup was asked for.
        matches: Vec<Match>,
        /// Whether there are more.
        more: More,
    },
}

impl ResolveError {
    /// The first failure of a step, if one failed: the machine may exist all the same.
    pub fn failure(&self) -> Option<&LookupError> {
        match self {
            Self::NotFound { attempts, .. } => attempts.iter().find_map(|attempt| match &attempt.outcome {
                Outcome::Failed(error) => Some(error),
                _ => None,
            }),
            Self::Ambiguous { .. } => None,
        }
    }

    /// Whether another try may help.
    pub fn is_temporary(&self) -> bool {
        self.failure().is_some_and(|error| {
            matches!(
                error.kind(),
                LookupErrorKind::Throttled | LookupErrorKind::Unreachable | LookupErrorKind::Service
            )
        })
    }
}

/// A search under way. [`Self::next_target`] says what to look up; every step's answer to it is told in the order of the chain
/// until the verdict is [`Verdict::Stop`], the others as unasked; then again, until there is no target.
#[derive(Debug)]
pub(crate) struct Search {
    written: Target,
    several: Several,
    next: Option<Target>,
    alias: Option<Target>,
    attempts: Vec<Attempt>,
    result: Option<Result<Resolved, ResolveError>>,
}

/// Whether the next step's answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Continue,
    Stop,
}

impl Search {
    pub(crate) fn new(target: &Target, several: Several) -> Self {
        let mut search = Self {
            written: target.clone(),
            several,
            next: None,
            alias: None,
            attempts: Vec::new(),
            result: None,
        };
        search.look_up(target.clone(), None);
        search
    }

    /// What to ask the whole chain for, once.
    pub(crate) fn next_target(&mut self) -> Option<Target> {
        self.next.take()
    }

    pub(crate) fn handle_answer(&mut self, step: &str, answer: Result<Answer, LookupError>) -> Verdict {
        let (outcome, verdict) = match answer {
            Ok(Answer::Found(mut matches)) if !matches.found.is_empty() => {
                remove_repeated(&mut matches.found);
                self.result = Some(self.choose(step, &matches));
                (Outcome::Found(matches.found), Verdict::Stop)
            }
            // An alias may add nothing but settings to a name, so that the machine has the same one.
            Ok(Answer::Alias(_)) if self.alias.as_ref() == Some(&self.written) => {
                (Outcome::NotMine, Verdict::Continue)
            }
            Ok(Answer::Alias(_)) if self.alias.is_some() => {
                let message = format!("alias '{}' stands for another alias", self.written);
                (Outcome::Failed(LookupError::new(LookupErrorKind::Invalid, message)), Verdict::Stop)
            }
            Ok(Answer::Alias(target)) => {
                self.record(step, Outcome::Alias(target.clone()));
                self.look_up(target.clone(), Some(step));
                self.alias = Some(target);
                return Verdict::Stop;
            }
            Ok(Answer::Found(_) | Answer::Nothing) => (Outcome::Nothing, Verdict::Continue),
            Ok(Answer::NotMine) => (Outcome::NotMine, Verdict::Continue),
            Err(error) => (Outcome::Failed(error), Verdict::Continue),
        };
        self.record(step, outcome);
        verdict
    }

    /// A step that was not asked, or whose answer was not waited for.
    pub(crate) fn handle_unasked(&mut self, step: &str) {
        // The steps of an alias follow; the ones it replaced say nothing of interest.
        if self.next.is_none() {
            self.record(step, Outcome::NotAsked);
        }
    }

    pub(crate) fn finish(self) -> Explanation {
        let result = self.result.unwrap_or_else(|| {
            Err(ResolveError::NotFound { target: Box::new(self.written), attempts: self.attempts.clone() })
        });
        Explanation { attempts: self.attempts, result }
    }

    fn look_up(&mut self, target: Target, step: Option<&str>) {
        match target.session_target() {
            Some(id) => {
                self.result = Some(Ok(Resolved { found: id.into(), step: step.map(Into::into) }));
            }
            None => self.next = Some(target),
        }
    }

    fn choose(&self, step: &str, matches: &Matches) -> Result<Resolved, ResolveError> {
        let is_single = matches.found.len() == 1 && matches.more == More::No;
        if !is_single && (self.several == Several::Refuse || self.alias.is_some()) {
            return Err(ResolveError::Ambiguous {
                target: Box::new(self.written.clone()),
                matches: matches.found.clone(),
                more: matches.more,
            });
        }
        Ok(Resolved { found: matches.found[0].clone(), step: Some(step.into()) })
    }

    fn record(&mut self, step: &str, outcome: Outcome) {
        self.attempts.push(Attempt { step: step.into(), alias: self.alias.clone(), outcome });
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for attempt in &self.attempts {
            writeln!(f, "{attempt}")?;
        }
        match &self.result {
            Ok(resolved) => match &resolved.step {
                Some(step) => write!(f, "{} by {}", resolved.target(), visible(step)),
                None => write!(f, "{} needs no lookup", resolved.target()),
            },
            Err(ResolveError::NotFound { target, .. }) => {
                write!(f, "no machine found for '{}'", shown(target))
            }
            Err(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", visible(&self.step))?;
        if let Some(target) = &self.alias {
            write!(f, " for {}", shown(target))?;
        }
        write!(f, ": {}", self.outcome)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(matches) if matches.len() == 1 => write!(f, "found {}", matches[0]),
            Self::Found(matches) => write!(f, "found {} machines", matches.len()),
            Self::Alias(target) => write!(f, "stands for {}", shown(target)),
            Self::Nothing => write!(f, "nothing found"),
            Self::NotMine => write!(f, "does not look up this form"),
            Self::Failed(error) => write!(f, "{error}"),
            Self::NotAsked => write!(f, "not asked"),
        }
    }
}

/// One machine may answer to several addresses.
fn remove_repeated(matches: &mut Vec<Match>) {
    let mut seen = BTreeSet::new();
    matches.retain(|found| seen.insert(found.target.clone()));
}

fn not_found(target: &Target, attempts: &[Attempt]) -> String {
    let mut message = format!("no machine found for '{}'", shown(target));
    let said: Vec<&Attempt> = attempts
        .iter()
        .filter(|attempt| !matches!(attempt.outcome, Outcome::NotMine | Outcome::NotAsked))
        .collect();
    if said.is_empty() {
        message.push_str(": nothing here looks up such a target; give the id of the instance");
    }
    for attempt in said {
        message.push_str(&format!("\n  {attempt}"));
    }
    message
}

fn ambiguous(target: &Target, matches: &[Match], more: More) -> String {
    let several = match more {
        More::No => format!("{} machines", matches.len()),
        More::Maybe => format!("more than {} machines", matches.len()),
    };
    let mut message = format!("'{}' is the name of {several}; give the id of one", shown(target));
    for found in matches {
        message.push_str(&format!("\n  {found}"));
    }
    message
}

fn shown(target: &Target) -> String {
    visible(&target.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_that_finds_one_machine_wins() {
        let mut search = search("web", Several::Refuse);
        assert_eq!(search.handle_answer("one", Ok(Answer::NotMine)), Verdict::Continue);
        assert_eq!(search.handle_answer("two", Err(denied())), Verdict::Continue);
        assert_eq!(search.handle_answer("three", Ok(Answer::Nothing)), Verdict::Continue);
        assert_eq!(search.handle_answer("four", Ok(found(&[1]))), Verdict::Stop);
        search.handle_unasked("five");
        assert!(search.next_target().is_none());
        let explanation = search.finish();
        let resolved = explanation.result.clone().unwrap();
        assert_eq!((resolved.target().as_str(), resolved.step.as_deref()), ("i-00000001", Some("four")));
        assert_eq!(
            explanation.to_string(),
            "one: does not look up this form\ntwo: denied\nthree: nothing found\n\
             four: found i-00000001\nfive: not asked\ni-00000001 by four"
        );
    }

    #[test]
    fn every_cause_is_in_the_one_error() {
        let mut search = search("web", Several::Refuse);
        search.handle_answer("one", Err(denied()));
        search.handle_answer("two", Ok(Answer::Nothing));
        search.handle_answer("three", Ok(Answer::NotMine));
        let error = search.finish().result.unwrap_err();
        assert_eq!(error.to_string(), "no machine found for 'web'\n  one: denied\n  two: nothing found");
        assert_eq!(error.failure(), Some(&denied()));
        assert!(!error.is_temporary());
        let ResolveError::NotFound { attempts, .. } = error else { panic!() };
        assert_eq!(attempts.len(), 3);
    }

    #[test]
    fn no_step_finds_nothing() {
        let error = search("web", Several::First).finish().result.unwrap_err();
        assert!(error.to_string().contains("give the id"), "{error}");
    }

    #[test]
    fn several_machines_are_listed_and_end_the_search() {
        let mut search = search("web", Several::Refuse);
        assert_eq!(search.handle_answer("one", Ok(found(&[2, 1]))), Verdict::Stop);
        let error = search.finish().result.unwrap_err();
        assert_eq!(
            error.to_string(),
            "'web' is the name of 2 machines; give the id of one\n  i-00000002\n  i-00000001"
        );
    }

    #[test]
    fn the_first_of_several_is_taken_when_told_so() {
        let mut search = search("web", Several::First);
        search.handle_answer("one", Ok(found(&[2, 1])));
        assert_eq!(search.finish().result.unwrap().target().as_str(), "i-00000002");
    }

    #[test]
    fn a_machine_found_twice_is_one() {
        let mut search = search("web", Several::Refuse);
        search.handle_answer("one", Ok(found(&[1, 1])));
        assert!(search.finish().result.is_ok());
    }

    #[test]
    fn one_machine_of_an_unfinished_list_is_not_the_only_one() {
        let mut search = search("web", Several::Refuse);
        let matches = Matches { found: vec![machine(1)], more: More::Maybe };
        search.handle_answer("one", Ok(Answer::Found(matches)));
        let error = search.finish().result.unwrap_err();
        assert!(error.to_string().contains("more than 1 machines"), "{error}");
    }

    #[test]
    fn an_alias_is_looked_up_in_place_of_the_name() {
        let mut search = search("web", Several::First);
        assert_eq!(search.handle_answer("alias", Ok(Answer::Alias(target("tag:a=b")))), Verdict::Stop);
        search.handle_unasked("tag");
        assert_eq!(search.next_target(), Some(target("tag:a=b")));
        search.handle_answer("alias", Ok(Answer::NotMine));
        search.handle_answer("tag", Ok(Answer::Nothing));
        assert!(search.next_target().is_none());
        let error = search.finish().result.unwrap_err();
        assert_eq!(
            error.to_string(),
            "no machine found for 'web'\n  alias: stands for tag:a=b\n  tag for tag:a=b: nothing found"
        );
    }

    #[test]
    fn an_alias_stands_for_one_machine_only() {
        let mut search = search("web", Several::First);
        search.handle_answer("alias", Ok(Answer::Alias(target("tag:a=b"))));
        search.next_target();
        search.handle_answer("tag", Ok(found(&[1, 2])));
        assert!(matches!(search.finish().result, Err(ResolveError::Ambiguous { .. })));
    }

    #[test]
    fn an_alias_of_an_id_needs_no_lookup() {
        let mut search = search("web", Several::Refuse);
        search.handle_answer("alias", Ok(Answer::Alias(target("i-00000001"))));
        assert!(search.next_target().is_none());
        let resolved = search.finish().result.unwrap();
        assert_eq!((resolved.target().as_str(), resolved.step.as_deref()), ("i-00000001", Some("alias")));
    }

    #[test]
    fn an_alias_may_have_the_name_of_its_machine() {
        let mut search = search("web", Several::Refuse);
        search.handle_answer("alias", Ok(Answer::Alias(target("web"))));
        assert_eq!(search.next_target(), Some(target("web")));
        assert_eq!(search.handle_answer("alias", Ok(Answer::Alias(target("web")))), Verdict::Continue);
        search.handle_answer("tag", Ok(found(&[1])));
        assert!(search.finish().result.is_ok());
    }

    #[test]
    fn aliases_of_aliases_are_refused() {
        let mut search = search("a", Several::Refuse);
        search.handle_answer("alias", Ok(Answer::Alias(target("b"))));
        search.next_target();
        assert_eq!(search.handle_answer("alias", Ok(Answer::Alias(target("c")))), Verdict::Stop);
        assert!(search.next_target().is_none());
        let error = search.finish().result.unwrap_err();
        assert!(error.to_string().contains("alias 'a' stands for another alias"), "{error}");
    }

    #[test]
    fn failures_of_the_network_are_temporary() {
        let mut search = search("web", Several::Refuse);
        search.handle_answer("one", Err(LookupError::new(LookupErrorKind::Unreachable, "no route")));
        assert!(search.finish().result.unwrap_err().is_temporary());
    }

    fn search(text: &str, several: Several) -> Search {
        let mut search = Search::new(&target(text), several);
        assert_eq!(search.next_target(), Some(target(text)));
        search
    }

    fn target(text: &str) -> Target {
        text.parse().unwrap()
    }

    fn machine(number: u32) -> Match {
        format!("i-{number:08}").parse::<SessionTarget>().unwrap().into()
    }

    fn found(numbers: &[u32]) -> Answer {
        Answer::from_matches(numbers.iter().copied().map(machine).collect::<Vec<_>>())
    }

    fn denied() -> LookupError {
        LookupError::new(LookupErrorKind::AccessDenied, "denied")
    }
}
