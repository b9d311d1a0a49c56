//! Faults on purpose: rules that make this backend fail as Fly was seen to fail, over HTTP and in process alike. Rules live
//! as long as the process. Without rules nothing here may cost anything; what is decided here must hang on nothing but the
//! rules, the clock and the chance that the backend was given.

mod book;
mod call;
mod control;
mod history;
mod kind;
mod migration;
mod outlook;
mod reach;
mod reply;
mod rule;
mod strike;
mod subject;
mod view;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::chance::Chance;
use crate::local::{
    Backend,
    state::{Key, World},
};

pub use book::Listed;
pub use control::{Unreadable, read};
pub use kind::Kind;
pub use rule::{Invalid, Rule};

use book::Book;
use history::History;
use kind::Stage;
pub(super) use outlook::Outlook;
pub(super) use subject::Subject;
pub(super) use view::{Look, View};

/// The rules of a backend.
#[derive(Debug)]
pub(super) struct Faults {
    book: Mutex<Book>,
    /// Asked at every call, before the lock.
    any: AtomicBool,
    /// Kept only for rules that look back. Locked after the world, where both are.
    history: Mutex<Option<History>>,
    /// Rings when rules come and go.
    changed: Notify,
    /// Apps whose deletion was accepted and is put off.
    going: Mutex<BTreeSet<String>>,
    chance: Arc<dyn Chance>,
}

impl Faults {
    pub(super) fn new(chance: Arc<dyn Chance>) -> Self {
        Self {
            book: Mutex::default(),
            any: AtomicBool::new(false),
            history: Mutex::default(),
            changed: Notify::new(),
            going: Mutex::default(),
            chance,
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are rules.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    fn history(&self) -> MutexGuard<'_, Option<History>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was changed in the world, if that is kept.
    pub(super) fn remember<'a>(
        &self,
        world: &World,
        keys: impl IntoIterator<Item = &'a Key>,
        now: Duration,
    ) {
        if self.any()
            && let Some(history) = &mut *self.history()
        {
            history.remember(world, keys, now);
        }
    }

    /// Whether an app's name is somebody else's.
    fn is_foreign(&self, app: &str, now: Duration) -> bool {
        self.book().is_taken(app, now)
    }

    /// Apps whose deletion was accepted and is put off.
    pub(super) fn going(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.going.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        let mut book = self.book();
        let result = change(&mut book);
        self.any.store(!book.is_empty(), Ordering::Release);
        self.changed.notify_waiters();
        result
    }
}

/// The switches of a backend's faults.
#[derive(Debug, Clone, Copy)]
pub struct Switches<'a>(&'a Backend);

impl Switches<'_> {
    /// Adds a rule, in force from now on, or from when it says. Returns its number. Must be called in a runtime.
    ///
    /// # Errors
    /// If it limits or sets what its kind does not look at.
    pub fn add(&self, rule: Rule) -> Result<u64, Invalid> {
        rule.check()?;
        let now = self.0.clock.monotonic();
        let rule = Arc::new(rule);
        let id = self.0.faults.change(|it| it.add(Arc::clone(&rule), now));
        self.keep_history();
        if rule.kind.stage() == Stage::Strike
            && let Some(backend) = self.0.me.upgrade()
        {
            backend.begin_strikes(id, rule);
        }
        Ok(id)
    }

    /// Ends a rule; false if there is none of that number.
    pub fn remove(&self, id: u64) -> bool {
        let removed = self.0.faults.change(|it| it.remove(id));
        self.keep_history();
        removed
    }

    /// Ends all rules.
    pub fn clear(&self) {
        self.0.faults.change(Book::clear);
        self.keep_history();
    }

    /// Begins or ends to keep what was, as the rules want it.
    fn keep_history(&self) {
        let world = self.0.lock();
        let wanted = self.0.faults.book().has(Kind::looks_back);
        let mut history = self.0.faults.history();
        if !wanted {
            *history = None;
        } else if history.is_none() {
            *history = Some(History::since(&world));
        }
    }

    /// The rules, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        self.0.faults.book().list()
    }

    /// How often each kind came true since the backend was opened, by its word; kinds that never did are left out.
    #[must_use]
    pub fn fired(&self) -> BTreeMap<&'static str, u64> {
        self.0.faults.book().fired().iter().map(|(kind, count)| (kind.name(), *count)).collect()
    }
}

impl Backend {
    /// The switches of its faults.
    #[must_use]
    pub fn faults(&self) -> Switches<'_> {
        Switches(self)
    }

    /// The first rule of such a kind that comes true now.
    fn fault(&self, of: impl Fn(Kind) -> bool, subject: &Subject) -> Option<Arc<Rule>> {
        let at = (self.clock.monotonic(), &*self.faults.chance);
        let rule = self.faults.book().first(of, subject, at)?;
        self.tell(&rule, subject);
        Some(rule)
    }

    /// All rules of such kinds that come true now.
    fn all_faults(&self, of: impl Fn(Kind) -> bool, subject: &Subject) -> Vec<Arc<Rule>> {
        let at = (self.clock.monotonic(), &*self.faults.chance);
        let rules = self.faults.book().all(of, subject, at);
        for rule in &rules {
            self.tell(rule, subject);
        }
        rules
    }

    /// Whether a rule strikes something now.
    fn strikes(&self, id: u64, subject: &Subject) -> bool {
        let at = (self.clock.monotonic(), &*self.faults.chance);
        let Some(rule) = self.faults.book().strikes(id, subject, at) else { return false };
        self.tell(&rule, subject);
        true
    }

    fn tell(&self, rule: &Rule, subject: &Subject) {
        self.metrics.fault(rule.kind.name());
        tracing::info!(kind = rule.kind.name(), ?subject, "a fault on purpose");
    }

    /// What is to become of a call's answer.
    pub(super) fn reply_fault(&self, subject: impl FnOnce() -> Subject) -> Option<Arc<Rule>> {
        if !self.faults.any() {
            return None;
        }
        let subject = subject();
        let route = subject.route();
        self.fault(|kind| kind.stage() == Stage::Reply && reach::befalls(kind, route), &subject)
    }
}
