//! What reads are shown when faults bend their view: empty, short, stale, partial lists, and reads that lag. It must never
//! bend what is.

use std::{ops::Deref, sync::Arc, sync::MutexGuard, time::Duration};

use crate::local::{
    Backend,
    faults::{Kind, Outlook, Rule, Stage, Subject, history::put_app, reach},
    state::{Machine, Volume, World},
};

/// How long a deleted item is still listed, and how old a view is that does not say how many reads.
const AGO: Duration = Duration::from_secs(60);

const APPS_PATH: &str = "/v1/apps";

/// How a read looks at the world.
#[derive(Debug, Default)]
pub(in crate::local) struct Look {
    faults: Vec<Arc<Rule>>,
    /// What the same read of an earlier time has too.
    list: String,
}

/// What a read is answered from.
#[derive(Debug)]
pub(in crate::local) struct View<'a> {
    world: Shown<'a>,
    /// What hosts and programs add to it.
    pub(in crate::local) outlook: Outlook<'a>,
    /// Regions that are said to have failed.
    pub(in crate::local) error_regions: Vec<String>,
}

#[derive(Debug)]
enum Shown<'a> {
    Now(MutexGuard<'a, World>),
    Bent(Box<World>),
}

impl Deref for View<'_> {
    type Target = World;

    fn deref(&self) -> &World {
        match &self.world {
            Shown::Now(world) => world,
            Shown::Bent(world) => world,
        }
    }
}

impl Backend {
    /// The faults that bend a read's view. Reads of one path that ask alike are reads of one list.
    pub(in crate::local) fn look(
        &self,
        subject: impl FnOnce() -> Subject,
        uri: &http::Uri,
    ) -> Look {
        if !self.faults.any() {
            return Look::default();
        }
        let subject = subject();
        let route = subject.route();
        let of = |kind: Kind| kind.stage() == Stage::View && reach::befalls(kind, route);
        let asks = uri.query().unwrap_or_default().split('&');
        let asks: Vec<_> = asks.map(|it| it.split('=').next().unwrap_or_default()).collect();
        let list = format!("{}?{}", uri.path(), asks.join("&"));
        Look { faults: self.all_faults(of, &subject), list }
    }

    /// The world as a read sees it.
    pub(in crate::local) fn view(&self, look: &Look) -> View<'_> {
        let outlook = self.outlook();
        let world = Shown::Now(self.lock());
        let mut view = View { world, outlook, error_regions: Vec::new() };
        if !look.faults.is_empty() {
            let mut bent = World::clone(&view);
            for rule in &look.faults {
                self.bend_world(rule, &look.list, &mut bent);
                if rule.kind == Kind::ErrorRegions {
                    view.error_regions.extend(rule.regions.iter().flatten().cloned());
                }
            }
            view.world = Shown::Bent(Box::new(bent));
        }
        if let Some(history) = &mut *self.faults.history() {
            history.note_read(&look.list);
        }
        view
    }

    fn bend_world(&self, rule: &Rule, list: &str, world: &mut World) {
        let since = || self.clock.monotonic().checked_sub(rule.ago.unwrap_or(AGO));
        let is_in = |region: &str| rule.regions.iter().flatten().any(|it| it == region);
        match rule.kind {
            Kind::ListEmpty => retain(world, list, |_| false),
            Kind::ListShort => without_newest(world, list),
            Kind::ListOneRegion => retain(world, list, |it| is_in(it.region)),
            Kind::ErrorRegions => retain(world, list, |it| !is_in(it.region)),
            Kind::ListStale | Kind::LaggingReads => {
                if let Some(history) = &*self.faults.history() {
                    let past = match rule.ago {
                        Some(_) => history.at(since()),
                        None => history.reads_ago(list, rule.reads.map_or(1, usize::from)),
                    };
                    let present = std::mem::replace(world, past);
                    if rule.kind == Kind::ListStale && path(list) != APPS_PATH {
                        // It is the list that is stale, not the app.
                        present.apps.values().for_each(|it| put_app(world, it));
                    }
                }
            }
            Kind::DeletedListed => {
                if let Some(history) = &*self.faults.history() {
                    history.put_back(world, since());
                }
            }
            _ => {}
        }
    }
}

/// What lists have in common.
#[derive(Debug, Clone, Copy)]
struct Item<'a> {
    id: &'a str,
    region: &'a str,
}

/// Leaves in what the list is of, and nothing else of its kind.
fn retain(world: &mut World, list: &str, keep: impl Fn(Item<'_>) -> bool) {
    match path(list) {
        APPS_PATH => world.apps.retain(|_, it| keep(Item { id: &it.name, region: "" })),
        path if path.ends_with("/volumes") => {
            world.volumes.retain(|_, it| keep(Item { id: &it.id, region: &it.region }));
        }
        _ => world.machines.retain(|_, it| keep(Item { id: &it.id, region: &it.region })),
    }
}

/// Leaves out what was made last of all that the list is about.
fn without_newest(world: &mut World, list: &str) {
    let path = path(list);
    let app = path.strip_prefix("/v1/apps/").and_then(|it| it.split('/').next());
    let is_in = |of: &str| app.is_none_or(|it| it == of);
    let newest = match path {
        APPS_PATH => world.apps.values().map(|it| (it.created_at, it.name.clone())).max(),
        path if path.ends_with("/volumes") => {
            let listed = |it: &&Volume| it.destroy_at.is_none() && is_in(&it.app);
            world.volumes.values().filter(listed).map(|it| (it.created_at, it.id.clone())).max()
        }
        _ => {
            let listed = |it: &&Machine| it.is_live() && is_in(&it.app);
            world.machines.values().filter(listed).map(|it| (it.created_at, it.id.clone())).max()
        }
    };
    if let Some((_, newest)) = newest {
        retain(world, list, |it| it.id != newest);
    }
}

fn path(list: &str) -> &str {
    list.split('?').next().unwrap_or_default()
}
