//! The organisation's lists: oldest change first, in pages whose cost does not depend on how much there is. They must never
//! sort anything.

use std::{collections::BTreeSet, ops::Bound};

use crate::clock::Timestamp;
use crate::fly::wire;
use crate::local::{
    Backend, call::Page, faults::View, refusal::Refusal, respond::Reply, state::World, view,
};

const LIMIT_MAX: usize = 1_000;

/// A part of a list: ids to show, and where the next part begins.
struct Part {
    ids: Vec<(Timestamp, String)>,
    more: bool,
}

impl Page {
    /// At most `limit` entries after the cursor, or else after `updated_after`. What the filter drops counts too, so a page
    /// may be short or empty with more to come.
    fn cut(
        &self,
        index: &BTreeSet<(String, Timestamp, String)>,
        org: &str,
    ) -> Result<Part, Refusal> {
        let limit = self.limit.unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX);
        let after = if !self.cursor.is_empty() {
            let (at, id) = parse_cursor(&self.cursor)
                .ok_or_else(|| Refusal::Invalid("invalid_argument: invalid cursor".to_owned()))?;
            (org.to_owned(), at, id)
        } else if !self.updated_after.is_empty() {
            let at = self.updated_after.parse().map_err(|_| {
                Refusal::Invalid("invalid_argument: invalid updated_after".to_owned())
            })?;
            // Greater than every id at that time.
            (org.to_owned(), at, "~".to_owned())
        } else {
            (org.to_owned(), Timestamp::MIN, String::new())
        };
        let mut rest = index
            .range((Bound::Excluded(after), Bound::Unbounded))
            .take_while(|(it, _, _)| it == org)
            .map(|(_, at, id)| (*at, id.clone()));
        let ids: Vec<_> = rest.by_ref().take(limit).collect();
        Ok(Part { more: rest.next().is_some(), ids })
    }
}

impl Part {
    fn next_cursor(&self) -> String {
        match self.ids.last() {
            Some((at, id)) if self.more => format!("{}.{id}", at.as_nanosecond()),
            Some(_) | None => String::new(),
        }
    }

    fn last(&self) -> (String, String) {
        self.ids.last().map(|(at, id)| (at.to_string(), id.clone())).unwrap_or_default()
    }
}

fn parse_cursor(cursor: &str) -> Option<(Timestamp, String)> {
    let (at, id) = cursor.split_once('.')?;
    Some((Timestamp::from_nanosecond(at.parse().ok()?).ok()?, id.to_owned()))
}

impl Backend {
    pub(super) fn list_org_machines(
        &self,
        view: &View<'_>,
        org: &str,
        page: &Page,
    ) -> Result<Reply, Refusal> {
        self.check_org(org)?;
        let world: &World = view;
        let part = page.cut(&world.machines_by_update, org)?;
        let machines = part.ids.iter().filter_map(|(_, id)| world.machines.get(id));
        let machines = machines.filter(|it| page.filter.matches(it));
        let summary = page.filter.summary;
        let shown = |it| view.outlook.org_machine(view::org_machine(it, summary), it, world);
        let machines = machines.map(shown).collect();
        let (last_updated_at, last_machine_id) = part.last();
        Reply::json(&wire::OrgMachines {
            machines,
            next_cursor: part.next_cursor(),
            error_regions: view.error_regions.clone(),
            last_updated_at,
            last_machine_id,
        })
    }

    pub(super) fn list_org_volumes(
        &self,
        view: &View<'_>,
        org: &str,
        page: &Page,
    ) -> Result<Reply, Refusal> {
        self.check_org(org)?;
        let world: &World = view;
        let part = page.cut(&world.volumes_by_update, org)?;
        let filter = &page.filter;
        let volumes = part.ids.iter().filter_map(|(_, id)| world.volumes.get(id));
        let volumes = volumes.filter(|it| {
            (filter.include_deleted || it.destroy_at.is_none())
                && (filter.regions.is_empty() || filter.regions.contains(&it.region))
                && (filter.states.is_empty() || filter.states.iter().any(|word| word == it.state()))
        });
        let volumes = volumes.map(|it| wire::Volume {
            app_name: Some(it.app.clone()),
            updated_at: Some(it.updated_at.to_string()),
            ..view.outlook.volume(view::volume(world, it), it)
        });
        let (last_updated_at, last_volume_id) = part.last();
        Reply::json(&wire::OrgVolumes {
            volumes: volumes.collect(),
            next_cursor: part.next_cursor(),
            last_updated_at,
            last_volume_id,
        })
    }

    fn check_org(&self, org: &str) -> Result<(), Refusal> {
        if self.config.orgs.iter().any(|it| it == org) {
            Ok(())
        } else {
            Err(Refusal::NotFound("organization"))
        }
    }
}
