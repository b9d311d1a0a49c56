//! Which machine a replay goes to, decided by state alone. It must never dial: a frozen process accepts connections.

use crate::local::{fleet::Target, front::replay::Instance};

/// What a replay looks for, with nothing left to look up.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The app, unless only an exact machine was named.
    pub(super) app: Option<String>,
    /// The machine.
    pub(super) instance: Option<Instance>,
    /// Regions in order of preference.
    pub(super) regions: Vec<String>,
    /// A machine that must not be taken.
    pub(super) except: Option<String>,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// It is started: connect.
    Dial(Target),
    /// It sleeps and a request may wake it.
    Wake(Target),
    /// None now, but one is between two states.
    Later,
    /// None, and waiting would not change that.
    Nothing,
}

/// Chooses among an app's machines; `load` is how many requests a machine has in flight.
pub(super) fn choose(wanted: &Wanted, targets: &[Target], load: impl Fn(&str) -> usize) -> Choice {
    let mut fit: Vec<&Target> = targets.iter().filter(|target| wanted.fits(target)).collect();
    let preferred = match &wanted.instance {
        Some(Instance::Prefer(id)) => Some(id.as_str()),
        Some(Instance::Exactly(_)) | None => None,
    };
    fit.sort_by_cached_key(|target| {
        let id = target.id.as_str();
        (preferred != Some(id), wanted.region_rank(&target.region), load(id), target.id.clone())
    });
    if let Some(started) = fit.iter().find(|target| target.state == "started") {
        return Choice::Dial((*started).clone());
    }
    if let Some(asleep) = fit.iter().find(|target| target.autostart && sleeps(&target.state)) {
        return Choice::Wake((*asleep).clone());
    }
    if fit.iter().any(|target| passes(target)) { Choice::Later } else { Choice::Nothing }
}

fn sleeps(state: &str) -> bool {
    matches!(state, "stopped" | "suspended")
}

/// Whether the machine is on its way to a state in which it could be taken.
fn passes(target: &Target) -> bool {
    match target.state.as_str() {
        "starting" | "restarting" | "replacing" | "updating" => true,
        // These end asleep, from where only autostart helps.
        "created" | "creating" | "stopping" | "suspending" => target.autostart,
        _ => false,
    }
}

impl Wanted {
    fn fits(&self, target: &Target) -> bool {
        let named = match &self.instance {
            Some(Instance::Exactly(id)) => *id == target.id,
            Some(Instance::Prefer(_)) | None => true,
        };
        named
            && !target.cordoned
            && self.app.as_ref().is_none_or(|app| *app == target.app)
            && self.except.as_ref() != Some(&target.id)
    }

    /// Everything runs on one computer, so a region that is not here ranks last and never fails a request.
    fn region_rank(&self, region: &str) -> usize {
        self.regions.iter().position(|wanted| wanted == region).unwrap_or(self.regions.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fly::wire::Autostop;

    fn target(id: &str, state: &str) -> Target {
        Target {
            app: "web".into(),
            network: "default".into(),
            id: id.into(),
            state: state.into(),
            region: "local".into(),
            internal_port: 80,
            autostart: true,
            autostop: Autostop::Off,
            min_machines_running: 0,
            cordoned: false,
        }
    }

    fn chosen(instance: Option<Instance>, targets: &[Target]) -> String {
        let wanted =
            Wanted { app: Some("web".into()), instance, regions: Vec::new(), except: None };
        match choose(&wanted, targets, |id| usize::from(id == "busy")) {
            Choice::Dial(target) => format!("dial {}", target.id),
            Choice::Wake(target) => format!("wake {}", target.id),
            Choice::Later => "later".into(),
            Choice::Nothing => "nothing".into(),
        }
    }

    #[test]
    fn an_exact_machine_is_taken_or_none() {
        let exactly = |state: &str| {
            chosen(
                Some(Instance::Exactly("b".into())),
                &[target("a", "started"), target("b", state)],
            )
        };
        assert_eq!(exactly("started"), "dial b");
        assert_eq!(exactly("stopped"), "wake b");
        assert_eq!(exactly("suspended"), "wake b");
        for passing in ["created", "creating", "starting", "stopping", "suspending", "replacing"] {
            assert_eq!(exactly(passing), "later", "{passing}");
        }
        for gone in ["failed", "destroying", "destroyed", "anything"] {
            assert_eq!(exactly(gone), "nothing", "{gone}");
        }
    }

    #[test]
    fn a_preferred_machine_gives_way_to_any_that_runs() {
        let prefer = Some(Instance::Prefer("b".into()));
        assert_eq!(
            chosen(prefer.clone(), &[target("a", "started"), target("b", "started")]),
            "dial b"
        );
        assert_eq!(
            chosen(prefer.clone(), &[target("a", "started"), target("b", "stopped")]),
            "dial a"
        );
        assert_eq!(
            chosen(prefer.clone(), &[target("a", "stopped"), target("b", "stopped")]),
            "wake b"
        );
        assert_eq!(chosen(prefer, &[target("a", "stopped")]), "wake a");
    }

    #[test]
    fn the_least_busy_of_those_that_run_is_taken() {
        assert_eq!(chosen(None, &[target("busy", "started"), target("z", "started")]), "dial z");
    }

    #[test]
    fn a_cordoned_machine_is_never_taken() {
        let cordoned = |state: &str| Target { cordoned: true, ..target("a", state) };
        assert_eq!(chosen(None, &[cordoned("started")]), "nothing");
        assert_eq!(chosen(None, &[cordoned("stopped")]), "nothing");
        assert_eq!(chosen(Some(Instance::Exactly("a".into())), &[cordoned("started")]), "nothing");
    }

    #[test]
    fn a_machine_without_autostart_stays_asleep() {
        let left = |state: &str| Target { autostart: false, ..target("a", state) };
        assert_eq!(chosen(None, &[left("stopped")]), "nothing");
        assert_eq!(chosen(None, &[left("suspending")]), "nothing");
        assert_eq!(chosen(None, &[left("starting")]), "later");
    }

    #[test]
    fn regions_order_machines_and_exclude_none() {
        let at = |id: &str, region: &str| Target { region: region.into(), ..target(id, "started") };
        let wanted = Wanted {
            app: Some("web".into()),
            instance: None,
            regions: vec!["fra".into(), "ams".into()],
            except: Some("d".into()),
        };
        let choose = |targets: &[Target]| choose(&wanted, targets, |_| 0);
        let (a, b, c, d) = (at("a", "iad"), at("b", "ams"), at("c", "fra"), at("d", "fra"));
        assert_eq!(choose(&[a.clone(), b.clone(), c.clone(), d.clone()]), Choice::Dial(c));
        assert_eq!(choose(&[a.clone(), b.clone()]), Choice::Dial(b));
        assert_eq!(choose(std::slice::from_ref(&a)), Choice::Dial(a));
        assert_eq!(choose(&[d]), Choice::Nothing);
    }
}
