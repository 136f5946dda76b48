//! [`Chain`]: which steps are asked, in which order, and which answer counts.

use std::fmt;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;

use crate::resolver::DynResolver;
use crate::search::{Search, Verdict};
use crate::{Explanation, ResolveError, Resolved, Resolver, Target};

/// Steps that look a target up, in order.
///
/// | a step says | the chain |
/// |---|---|
/// | one machine | takes it |
/// | several machines | fails with [`ResolveError::Ambiguous`], or takes the first, as [`Several`] says |
/// | an alias | starts again for that target; a single machine must come of it, and the name itself is not looked up |
/// | nothing, or an error | asks the next step |
///
/// If no step finds a machine, [`ResolveError::NotFound`] lists what each of them said. An id is its own answer, and no step is
/// asked.
///
/// Steps added with [`then`](Self::then) are asked when all in front of them have found nothing. Those added with
/// [`alongside`](Self::alongside) are asked at the same time as the step in front of them, and count only when that one has found nothing: the
/// result does not depend on who answers first.
///
/// ```
/// use ssm_resolve::{Chain, Target};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// let target: Target = "i-0123456789abcdef0".parse()?;
/// let resolved = runtime.block_on(Chain::new().resolve(&target))?;
/// assert_eq!(resolved.target().as_str(), "i-0123456789abcdef0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct Chain {
    stages: Vec<Stage>,
    several: Several,
}

/// Steps that are asked at the same time.
type Stage = Vec<Box<dyn DynResolver>>;

/// What to do with several machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Several {
    /// Fail and list them.
    #[default]
    Refuse,
    /// Take the first one found. What an alias stands for must be a single machine all the same.
    First,
}

impl Chain {
    /// A chain without steps: only ids resolve.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step that is asked when those in front of it have found nothing.
    #[must_use]
    pub fn then(mut self, resolver: impl Resolver + 'static) -> Self {
        self.stages.push(vec![Box::new(resolver)]);
        self
    }

    /// Adds a step that is asked at the same time as the one in front of it and counts after it.
    #[must_use]
    pub fn alongside(mut self, resolver: impl Resolver + 'static) -> Self {
        match self.stages.last_mut() {
            Some(stage) => stage.push(Box::new(resolver)),
            None => self.stages.push(vec![Box::new(resolver)]),
        }
        self
    }

    /// What to do with several machines; [`Several::Refuse`] unless told.
    #[must_use]
    pub fn several(mut self, several: Several) -> Self {
        self.several = several;
        self
    }

    /// Finds the machine.
    ///
    /// Dropping the future ends every lookup.
    ///
    /// # Errors
    ///
    /// [`ResolveError::NotFound`] with what each step said, or [`ResolveError::Ambiguous`] with the machines.
    pub async fn resolve(&self, target: &Target) -> Result<Resolved, ResolveError> {
        self.explain(target).await.result
    }

    /// Finds the machine and tells what each step said, those included that were not asked.
    pub async fn explain(&self, target: &Target) -> Explanation {
        let mut search = Search::new(target, self.several);
        while let Some(target) = search.next_target() {
            self.run(&target, &mut search).await;
        }
        search.finish()
    }

    async fn run(&self, target: &Target, search: &mut Search) {
        let mut verdict = Verdict::Continue;
        for stage in &self.stages {
            let mut asked = 0;
            if verdict == Verdict::Continue {
                let mut answers: FuturesOrdered<_> = stage.iter().map(|step| step.resolve(target)).collect();
                while verdict == Verdict::Continue
                    && let Some(answer) = answers.next().await
                {
                    verdict = search.handle_answer(&stage[asked].step(), answer);
                    asked += 1;
                }
            }
            for step in &stage[asked..] {
                search.handle_unasked(&step.step());
            }
        }
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stages: Vec<Vec<_>> =
            self.stages.iter().map(|stage| stage.iter().map(|step| step.step()).collect()).collect();
        f.debug_struct("Chain").field("stages", &stages).field("several", &self.several).finish()
    }
}
