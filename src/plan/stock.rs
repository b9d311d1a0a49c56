//! What a pool's bay is: what it is planned as while it is unbound, when it can be had, and which one an environment gets. It must
//! never count them.
//!
//! An unbound bay is kept by the same plan as an environment's: [`vacant`] makes an environment of it that wants nothing of
//! its own. It is never changed, but replaced.

use std::collections::BTreeMap;

use crate::api::{
    Timestamp,
    bay::{Bay, EnvironmentRef, Stock, Trouble},
    environment::{
        BayRef, Environment, EnvironmentSpec, EnvironmentStatus, OperatingMode, Phase, Reason,
    },
    kind::Kind,
    meta::{Metadata, NameRef, Resource as _},
    pool::{POOL_LABEL, WarmPool, WarmState},
    quantity::Span,
    rollout::{EnvironmentRevision, RevisionRef, TemplateStatus},
    template::{Sleep, SleepDecider, SleepMode, Template, TemplateSpec, Update, UpdateStrategy},
};
use crate::plan::{Plan, bay, environment::STARTED_AGAIN, machine};

/// What a pool needs to know of a bay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockFact {
    /// Its name.
    pub name: String,
    /// The pool's uid.
    pub pool_uid: String,
    /// Region that it must be in; `None` is any.
    pub wanted_region: Option<String>,
    /// Region that it is in.
    pub region: Option<String>,
    /// Digest of the template that it was made from.
    pub made_from: String,
    /// Number of the template's revision that it was made from, if that is known.
    pub revision: Option<u64>,
    /// When it was begun.
    pub made_at: Timestamp,
    /// Since when it can be had.
    pub available_since: Option<Timestamp>,
    /// What is wrong with it.
    pub trouble: Option<Trouble>,
    /// Whether it is being removed.
    pub going: bool,
    /// Whether it was begun before the store was made from an export: it may have been claimed after that, and somebody's data may be
    /// in it.
    pub doubtful: bool,
    /// When it was bound.
    pub claimed_at: Option<Timestamp>,
    /// Whether the pool did not make it: it stands for an environment that found none ready.
    pub missed: bool,
}

impl StockFact {
    /// What of a bay concerns a pool. What it was made from is never changed; what was known of it `before` saves taking the digest
    /// again. `restored_at` is when the store was made from an export, if it was.
    #[must_use]
    pub fn of(bay: &Bay, before: Option<&Self>, restored_at: Option<Timestamp>) -> Option<Self> {
        let made_at = bay.metadata.creation_timestamp.unwrap_or_default();
        let mut fact = Self {
            name: bay.metadata.name.clone(),
            pool_uid: String::new(),
            wanted_region: None,
            region: bay.status.region.clone(),
            made_from: String::new(),
            revision: bay.status.template.as_ref().map(|it| it.revision),
            made_at,
            available_since: None,
            trouble: None,
            going: bay.is_deleting(),
            doubtful: restored_at.is_some_and(|at| made_at <= at),
            claimed_at: bay.spec.claimed_at,
            missed: false,
        };
        if let Some(stock) = &bay.spec.stock {
            fact.pool_uid.clone_from(&stock.pool_uid);
            fact.wanted_region.clone_from(&stock.region);
            let same = before.filter(|it| !it.missed && it.made_at == made_at);
            fact.made_from =
                same.map_or_else(|| made_from(&stock.made_from), |before| before.made_from.clone());
            fact.available_since = bay.status.available_since;
            fact.trouble.clone_from(&bay.status.trouble);
        } else {
            fact.pool_uid.clone_from(bay.spec.missed_pool.as_ref()?);
            fact.missed = true;
        }
        Some(fact)
    }

    /// Whether Fly has no room for it where it must be.
    pub(crate) fn waits_for_room(&self) -> bool {
        self.trouble.as_ref().is_some_and(|it| it.reason == Reason::NoCapacity)
    }

    /// What it is given up for if it stays so.
    pub(crate) fn fault(&self) -> Option<&Trouble> {
        self.trouble.as_ref().filter(|it| !may_pass(it.reason))
    }
}

/// Whether what is wrong with a bay for this reason is no fault of what it was made from: it is not given up for that.
fn may_pass(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NoCapacity
            | Reason::Held
            | Reason::ViewIncomplete
            | Reason::FlyUnreachable
            | Reason::CallFailed
    )
}

/// A bay that can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vacancy {
    /// Its name.
    pub name: String,
    /// The pool that has it.
    pub pool: String,
    /// Region that it is in.
    pub region: Option<String>,
    /// Whether that is one of the template's, which an environment without a region of its own wants.
    pub listed: bool,
    /// Since when it can be had.
    pub since: Timestamp,
    /// Digest of the template that it was made from.
    pub made_from: String,
    /// Whether what an environment adds to its template can be written into it.
    pub personal: bool,
}

impl Vacancy {
    /// What is offered of a bay, if it can be had.
    #[must_use]
    pub fn of(bay: &Bay) -> Option<Self> {
        let stock = bay.spec.stock.as_ref()?;
        Self::with_digest(bay, || made_from(&stock.made_from))
    }

    /// The same, where the digest of what it was made from is known.
    pub(crate) fn with_digest(bay: &Bay, made_from: impl FnOnce() -> String) -> Option<Self> {
        let (stock, since) = vacant_since(bay)?;
        let region = bay.status.region.clone();
        Some(Self {
            name: bay.metadata.name.clone(),
            pool: stock.pool.clone(),
            listed: region.as_ref().is_none_or(|it| stock.made_from.regions.contains(it)),
            region,
            since,
            made_from: made_from(),
            personal: stock.made_from.personalize.is_some(),
        })
    }

    /// What is said where an environment that is made from what has this digest claims it.
    pub(crate) fn claimed_by(&self, made_from: Option<&str>) -> String {
        let is_other = made_from.is_some_and(|it| it != self.made_from);
        let of = if is_other { ", made from another revision of the template," } else { "" };
        format!("bay {} of pool {}{of} is claimed", self.name, self.pool)
    }
}

/// As what a bay waits in its pool and since when, if it can be had.
fn vacant_since(bay: &Bay) -> Option<(&Stock, Timestamp)> {
    let free = bay.spec.environment_ref.is_none() && bay.spec.claimed_at.is_none();
    let stock = bay.spec.stock.as_ref().filter(|_| free && !bay.is_deleting())?;
    Some((stock, bay.status.available_since?))
}

/// Whether a bay can be had.
pub(crate) fn is_vacant(bay: &Bay) -> bool {
    vacant_since(bay).is_some()
}

/// Makes a bay that can be had an environment's. That is kept at the revision that the bay was made from until its turn comes, or,
/// where that is not known, at this one.
pub fn claim(
    bay: &mut Bay,
    environment: &mut Environment,
    revision: Option<&EnvironmentRevision>,
    now: Timestamp,
) {
    bay.spec.environment_ref = Some(EnvironmentRef::of(environment));
    bay.spec.claimed_at = Some(now);
    bay.status.available_since = None;
    bay.metadata.owner_references = vec![environment.owner_reference()];
    bay.metadata.labels.remove(POOL_LABEL);
    bay.metadata.generation += 1;
    environment.status.bay = Some(BayRef {
        name: bay.metadata.name.clone(),
        app: bay.spec.app.clone(),
        region: bay.status.region.clone(),
        ..BayRef::default()
    });
    let made_from = bay.status.template.clone().map(EnvironmentRevision::from);
    environment.status.template = made_from.or_else(|| revision.cloned());
}

/// Whether an environment adds anything to its template that a program must be told.
fn adds(environment: &Environment) -> bool {
    !environment.spec.env.is_empty() || !environment.spec.secrets.is_empty()
}

/// Whether an environment can do with a bay that was made from this template and runs already: what it adds can be written into
/// it, or it adds nothing.
#[must_use]
pub fn fits(environment: &Environment, made_from: &TemplateSpec) -> bool {
    made_from.personalize.is_some() || !adds(environment)
}

/// The vacancy that an environment gets which is made from what has this digest, of those that it can do with: one that was made from
/// the same before another, in its region (or, where it names none, in one of the template's) before another, and of these the first.
/// They come as they wait, the longest first.
#[must_use]
pub fn choose<'a>(
    vacancies: impl Iterator<Item = &'a Vacancy>,
    environment: &Environment,
    made_from: &str,
) -> Option<&'a Vacancy> {
    let region = environment.spec.region.as_deref();
    let adds = adds(environment);
    let mut best = None;
    for it in vacancies.filter(|it| it.personal || !adds) {
        let elsewhere = match region {
            Some(_) => it.region.as_deref() != region,
            None => !it.listed,
        };
        let rank = (it.made_from != made_from, elsewhere);
        if rank == (false, false) {
            return Some(it);
        }
        if best.is_none_or(|(least, _)| rank < least) {
            best = Some((rank, it));
        }
    }
    best.map(|(_, it)| it)
}

/// A digest of what makes a difference to a machine: when environments sleep, as far as hangar sees to that, and when changes
/// reach them, does not.
#[must_use]
pub fn made_from(template: &TemplateSpec) -> String {
    let autostop = machine::autostop(template);
    let plain = TemplateSpec { sleep: None, update: None, ..template.clone() };
    // Strings, numbers and maps always serialise; an empty digest would only cost a new bay.
    let bytes = serde_json::to_vec(&(plain, autostop)).unwrap_or_default();
    blake3::hash(&bytes).to_hex().chars().take(16).collect()
}

/// What an unbound bay is planned as: an environment that wants nothing of its own, and its template as it was.
#[must_use]
pub fn vacant(bay: &Bay, stock: &Stock, warm_state: WarmState) -> (Environment, Template) {
    let metadata = Metadata {
        name: bay.metadata.name.clone(),
        namespace: bay.metadata.namespace.clone(),
        uid: bay.metadata.uid.clone(),
        generation: 1,
        deletion_timestamp: bay.metadata.deletion_timestamp,
        ..Metadata::default()
    };
    // It must have served before it may rest.
    let served = bay.status.machine.as_ref().is_some_and(|it| it.ready.is_some());
    let rests = served && warm_state != WarmState::Started;
    let mode = if rests { OperatingMode::Asleep } else { OperatingMode::Running };
    let environment = Environment {
        api_version: Kind::Environment.info().api_version(),
        kind: Kind::Environment.info().kind_name.to_owned(),
        metadata,
        spec: EnvironmentSpec {
            template_ref: NameRef { name: stock.template.clone() },
            owner: None,
            region: None,
            hostnames: Vec::new(),
            access: None,
            operating_mode: Some(mode),
            env: BTreeMap::new(),
            secrets: Vec::new(),
            deletion_policy: None,
            lifetime: None,
        },
        status: EnvironmentStatus::default(),
    };
    let mut spec = stock.made_from.clone();
    if let Some(region) = &stock.region {
        spec.regions = vec![region.clone()];
    }
    // Fly Proxy must not stop what nobody uses yet.
    spec.sleep = Span::parse("1h").ok().map(|after| Sleep {
        after,
        mode: Some(match warm_state {
            WarmState::Stopped => SleepMode::Stop,
            WarmState::Started | WarmState::Suspended => SleepMode::Suspend,
        }),
        decided_by: Some(SleepDecider::Hangar),
    });
    spec.update = Some(Update::by(UpdateStrategy::Rolling));
    let template = Template {
        api_version: Kind::Template.info().api_version(),
        kind: Kind::Template.info().kind_name.to_owned(),
        metadata: Metadata { name: stock.template.clone(), ..Metadata::default() },
        spec,
        status: TemplateStatus::default(),
    };
    (environment, template)
}

/// Completes the plan for an unbound bay: whether it can be had, and what is wrong with it if not.
pub fn judge(plan: &mut Plan, warm_state: WarmState, now: Timestamp) {
    let Some(status) = &mut plan.bay else { return };
    if let Some(machine) = &mut status.machine {
        machine.as_stock = true;
    }
    let rests = match warm_state {
        WarmState::Started => Phase::Ready,
        WarmState::Suspended | WarmState::Stopped => Phase::Asleep,
    };
    if plan.status.phase == Phase::Deleting {
        // Why it goes is not forgotten while it goes.
        status.available_since = None;
        return;
    }
    let served = status.machine.as_ref().is_some_and(|it| it.ready.is_some());
    // On its way to rest it can neither be had nor be told anything.
    let stopping = plan.status.phase == Phase::Ready && plan.note.reason == Reason::Idle;
    let still = served && plan.action.is_none() && !stopping;
    if still && plan.status.phase == rests {
        status.available_since.get_or_insert(now);
        status.trouble = None;
        return;
    }
    status.available_since = None;
    if still && plan.status.phase == Phase::Ready {
        // It served, so it is well, and may rest now.
        status.trouble = None;
        plan.wake_at = Some(now);
    }
    let reason = plan.note.reason;
    if !matches!(plan.status.phase, Phase::Degraded | Phase::Stalled) {
        // That it is started again is no proof that it is well: that it serves is.
        status.trouble.take_if(|it| may_pass(reason) || may_pass(it.reason));
        return;
    }
    let message = plan.note.message.trim_end_matches(STARTED_AGAIN).to_owned();
    let before = status.trouble.take().filter(|it| may_pass(it.reason) == may_pass(reason));
    let since = before.map_or(now, |it| it.since);
    status.trouble = Some(Trouble { reason, message, since });
}

/// What a new bay of a pool's is made as.
#[must_use]
pub fn stock(pool: &WarmPool, template: &Template, region: Option<String>) -> Stock {
    Stock {
        pool: pool.metadata.name.clone(),
        pool_uid: pool.metadata.uid.clone(),
        template: pool.spec.template_ref.name.clone(),
        made_from: template.spec.clone(),
        region,
    }
}

/// A bay of the pool's that is to be made; its uid is set by whoever stores it.
#[must_use]
pub fn made(
    pool: &WarmPool,
    (stock, revision): (Stock, RevisionRef),
    instance: &str,
    fresh_name: &str,
) -> Bay {
    let mut bay = bay::fresh(instance, fresh_name, stock.made_from.volume.is_some());
    bay.metadata.namespace.clone_from(&pool.metadata.namespace);
    bay.metadata.owner_references = vec![pool.owner_reference()];
    bay.metadata.labels.insert(POOL_LABEL.to_owned(), pool.metadata.name.clone());
    bay.spec.stock = Some(Box::new(stock));
    bay.status.template = Some(revision);
    bay
}
