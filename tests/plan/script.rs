//! Scenario scripts: lines of steps in, a transcript of what the planner did out. It must never check anything itself; a
//! change shows as a difference in text.

use std::fmt::Write as _;

use hangar::api::{Timestamp, bay::FullRegion, condition::Truth, meta::Resource as _};
use hangar::plan::{
    Level,
    action::{Outcome, RefusalKind},
    machine::EPOCH,
    world::{CheckState, MachineState, SecretFact, SeenApp, SeenVolume},
};
use jiff::SignedDuration;

use crate::fly::Machine;
use crate::model::{Fault, Model, Passed};

/// More passes without time going by than any plan needs.
const PASSES_MAX: usize = 25;

pub(crate) struct Script {
    pub(crate) model: Model,
    pub(crate) out: String,
    /// What every pass must hold to.
    pub(crate) check: fn(&Model, &Passed),
    /// Calls made so far.
    pub(crate) calls: u32,
    /// After so many calls the store is exported.
    pub(crate) export_after: Option<u32>,
    next: Option<Timestamp>,
    /// What was last said, so that it is said once.
    said: String,
    began: Timestamp,
    /// The machine that was destroyed last, which may come back.
    gone: Option<Machine>,
}

/// Runs a script; its transcript.
pub(crate) fn run(text: &str) -> String {
    let mut script = Script::new(|_, _| {});
    script.run(text);
    script.out.replace("> \n", "\n")
}

impl Script {
    pub(crate) fn new(check: fn(&Model, &Passed)) -> Self {
        let model = Model::new();
        let began = model.now;
        let (out, said, next) = (String::new(), String::new(), Some(began));
        Self { model, out, check, calls: 0, export_after: None, next, said, began, gone: None }
    }

    pub(crate) fn run(&mut self, text: &str) {
        for line in text.lines() {
            let mark = if line.starts_with('#') { "" } else { "> " };
            let _ = writeln!(self.out, "{mark}{line}");
            let words: Vec<_> = line.split_whitespace().collect();
            if !line.starts_with('#') && !words.is_empty() {
                self.step(&words, line);
            }
        }
    }

    fn step(&mut self, words: &[&str], line: &str) {
        let rest = |skip: usize| words[skip..].join(" ");
        match words {
            ["quietly", rest @ ..] => {
                let said = self.out.len();
                self.step(rest, line);
                self.out.truncate(said);
            }
            ["run"] => self.until(None),
            ["tick", span] => {
                let span = humantime::parse_duration(span).unwrap();
                self.until(Some(self.model.now + SignedDuration::try_from(span).unwrap()));
            }
            ["show"] => self.show(),
            _ => {
                self.change(words, line, &rest);
                self.next = Some(self.model.now);
            }
        }
    }

    /// Something changes that the planner did not do.
    fn change(&mut self, words: &[&str], line: &str, rest: &dyn Fn(usize) -> String) {
        let model = &mut self.model;
        let now = model.now;
        match words {
            ["template", "missing"] => model.template = None,
            ["template", path, ..] => set(model.template.as_mut().unwrap(), path, &rest(2)),
            ["environment", "delete"] => model.environment.metadata.deletion_timestamp = Some(now),
            ["environment", path, ..] => {
                set(&mut model.environment, path, &rest(2));
                model.environment.metadata.generation += 1;
            }
            ["secret", name, "missing"] => {
                model.secrets.insert((*name).to_owned(), None);
            }
            ["secret", name, "unnamed"] => {
                model.secrets.remove(*name);
            }
            ["secret", name, keys @ ..] => {
                let old = model.secrets.get(*name).cloned().flatten();
                let fact = SecretFact {
                    uid: "s1".to_owned(),
                    generation: old.map_or(1, |it| it.generation + 1),
                    keys: keys.iter().map(|it| (*it).to_owned()).collect(),
                };
                model.secrets.insert((*name).to_owned(), Some(fact));
            }
            ["orphan", "-"] => model.orphan = None,
            ["orphan", name] => model.orphan = Some((*name).to_owned()),
            ["request"] => model.last_request_at = Some(now),
            ["connections", count] => model.fly.connections = count.parse().unwrap(),
            ["no-destroying" | "hold" | "list" | "unclear" | "clear" | "unheard", ..] => {
                self.view(words, rest);
            }
            ["export"] => model.export(),
            ["restore"] => model.restore(),
            ["fail", action, fault @ ..] => {
                model.faults.push_back(((*action).to_owned(), self::fault(fault)));
            }
            ["others", "full", region, span] => {
                let span = humantime::parse_duration(span).unwrap();
                let retry_at = now + SignedDuration::try_from(span).unwrap();
                let region = (*region).to_owned();
                model.full_regions = vec![FullRegion { region, retry_at, size: None }];
            }
            ["full", regions @ ..] => {
                model.fly.full = regions.iter().map(|it| (*it).to_owned()).collect();
            }
            ["programs", "serve"] => (model.fly.serves, model.fly.exits) = (true, false),
            ["programs", "hang"] => (model.fly.serves, model.fly.exits) = (false, false),
            ["programs", "exit"] => (model.fly.serves, model.fly.exits) = (false, true),
            ["machines", "stick"] => model.fly.sticks = true,
            ["deletions", "stick"] => model.fly.deletes = false,
            ["deletions", "go"] => model.fly.deletes = true,
            ["app" | "volume" | "migrate", ..] => self.app(words),
            ["machine", ..] => self.machine(&words[1..]),
            _ => panic!("not a step: {line}"),
        }
    }

    /// Something changes about the app or its volumes.
    fn app(&mut self, words: &[&str]) {
        let model = &mut self.model;
        let now = model.now;
        match words {
            // On a host that does not answer, what was in the app stays.
            ["app", "forget"] => model.fly.app = None,
            ["app", "delete"] => {
                model.fly.app = None;
                model.fly.machines.clear();
                model.fly.volumes.clear();
            }
            ["app", "foreign"] => model.fly.app = Some(SeenApp { network: None, ours: false }),
            ["app", "ours"] => {
                let network = model.bay.as_ref().map(|it| it.spec.network.clone());
                model.fly.app = Some(SeenApp { network, ours: true });
            }
            ["app", "network", name] => {
                model.fly.app = Some(SeenApp { network: Some((*name).to_owned()), ours: true });
            }
            ["volume", "destroy"] => model.fly.volumes.clear(),
            ["migrate"] => self.migrate(),
            ["volume", "named", name] => model.fly.volumes.push(SeenVolume {
                id: "vol_other".to_owned(),
                region: "ams".to_owned(),
                name: (*name).to_owned(),
                size_gib: 1,
                attached_to: None,
                going: false,
                created_at: Some(now),
            }),
            ["volume", "going"] => {
                model.fly.volumes.iter_mut().for_each(|it| it.going = true);
            }
            _ => panic!("not a step: {words:?}"),
        }
    }

    /// Fly moves the machine to another host: it keeps its id, and its volume does not.
    fn migrate(&mut self) {
        let fly = &mut self.model.fly;
        for volume in &mut fly.volumes {
            let new = format!("{}-moved", volume.id);
            let old = std::mem::replace(&mut volume.id, new);
            for machine in &mut fly.machines {
                if let Some((id, _)) = machine.config.volume.as_mut().filter(|it| it.0 == old) {
                    id.clone_from(&volume.id);
                    machine.version.push('m');
                }
            }
        }
    }

    /// What may be believed, and what may be done, changes.
    fn view(&mut self, words: &[&str], rest: &dyn Fn(usize) -> String) {
        let model = &mut self.model;
        let now = model.now;
        match words {
            ["no-destroying", "-"] => model.no_destroying = None,
            ["no-destroying", ..] => model.no_destroying = Some(rest(1)),
            ["unheard", "-"] => model.unheard_since = None,
            ["unheard"] => model.unheard_since = Some(now),
            ["hold", "-"] => model.hold = None,
            ["hold", what, ..] => {
                (model.hold, model.hold_creates) = (Some(rest(2)), *what == "all");
            }
            ["list", "complete"] => model.complete_at = None,
            ["list", "incomplete"] => model.complete_at = Some(now),
            ["unclear", what] => model.unclear.push((*what).to_owned()),
            ["clear"] => model.unclear.clear(),
            _ => panic!("not a step: {words:?}"),
        }
    }

    /// Something changes about the first machine.
    fn machine(&mut self, words: &[&str]) {
        let fly = &mut self.model.fly;
        if words == ["back"] {
            if let Some(mut machine) = self.gone.take() {
                let taken = fly.machines.iter().any(|it| it.config.volume.is_some());
                machine.config.volume = machine.config.volume.filter(|_| !taken);
                fly.machines.push(machine);
            }
            return;
        }
        if fly.machines.is_empty() {
            return;
        }
        if words == ["destroy"] {
            self.gone = Some(fly.machines.remove(0));
            return;
        }
        let mut machine = fly.machines[0].clone();
        if !matches!(words, ["image" | "touched" | "unreachable" | "reachable", ..]) {
            // No two machines have one volume.
            machine.config.volume = None;
        }
        match words {
            ["later"] => {
                let mut late = machine;
                late.id = format!("{}-late", late.id);
                late.config.metadata.insert(EPOCH.to_owned(), "99".to_owned());
                fly.machines.retain(|it| it.id != late.id);
                fly.machines.push(late);
            }
            ["copy"] => {
                let mut copy = machine;
                (copy.id, copy.name) = (format!("{}-copy", copy.id), "wild-sun-1".to_owned());
                fly.machines.retain(|it| it.id != copy.id);
                fly.machines.push(copy);
            }
            ["older"] => {
                let mut old = machine;
                old.id = format!("{}-old", old.id);
                old.config.metadata.insert(EPOCH.to_owned(), "0".to_owned());
                fly.machines.retain(|it| it.id != old.id);
                fly.machines.push(old);
            }
            ["stranger", name @ ..] => {
                let mut other = machine;
                other.id = format!("{}-strange", other.id);
                other.name = name.first().map_or(other.name, |it| (*it).to_owned());
                other.config.metadata.clear();
                fly.machines.retain(|it| it.id != other.id);
                fly.machines.push(other);
            }
            _ => self.own_machine(words),
        }
    }

    fn own_machine(&mut self, words: &[&str]) {
        let machine = &mut self.model.fly.machines[0];
        match words {
            ["image", image] => {
                machine.config.image = (*image).to_owned();
                machine.version.push('x');
            }
            ["touched"] => machine.version.push('x'),
            ["unreachable"] => machine.host_answers = false,
            ["reachable"] => machine.host_answers = true,
            [state] => {
                machine.state = MachineState::parse(state);
                machine.next = None;
            }
            _ => panic!("not a step: {words:?}"),
        }
    }

    /// Passes until this time, or as long as there is something to do at once.
    fn until(&mut self, end: Option<Timestamp>) {
        let mut at_once = 0;
        while let Some(next) = self.next.filter(|it| *it <= end.unwrap_or(self.model.now)) {
            if next > self.model.now {
                self.model.now = next;
                at_once = 0;
            }
            at_once += 1;
            if at_once > PASSES_MAX {
                let _ = writeln!(self.out, "        AND SO ON WITHOUT END");
                self.next = None;
                break;
            }
            self.pass();
        }
        if let Some(end) = end {
            self.model.now = end;
            // Fly's list tells of what changed meanwhile.
            self.next = Some(self.next.map_or(end, |it| it.min(end)));
        }
    }

    fn pass(&mut self) {
        if self.model.released {
            self.next = None;
            return;
        }
        if self.model.bay.is_some() && self.export_after.take_if(|it| *it <= self.calls).is_some() {
            self.model.export();
        }
        let before = self.model.environment.status.clone();
        let passed = self.model.pass();
        (self.check)(&self.model, &passed);
        self.calls += u32::from(passed.plan.action.is_some());
        self.next = if self.model.released { None } else { passed.next };
        let told = tell(&self.model, &passed, &before);
        let wakes = match self.next {
            Some(at) if at > self.model.now => {
                format!("again in {}", span(at.duration_since(self.model.now)))
            }
            Some(_) => "again at once".to_owned(),
            None => "again when something happens".to_owned(),
        };
        let said = format!("{told}        {wakes}\n");
        if passed.plan.action.is_none() && said == self.said {
            return;
        }
        let at = span(self.model.now.duration_since(self.began));
        let _ = write!(self.out, "{at:>7} {}", said.trim_start());
        self.said = said;
    }

    fn show(&mut self) {
        let fly = &self.model.fly;
        let mut out = String::new();
        for it in &fly.volumes {
            let _ = writeln!(out, "        volume {} in {}, {} GiB", it.id, it.region, it.size_gib);
        }
        for it in &fly.machines {
            let check = if it.check == CheckState::Passing { ", passing" } else { "" };
            let _ = writeln!(
                out,
                "        machine {} {} in {}, {} {}{check}, epoch {}",
                it.id,
                it.name,
                it.region,
                it.version,
                it.state.word(),
                it.config.metadata.get(EPOCH).map_or("-", String::as_str)
            );
        }
        let status = &self.model.environment.status;
        let machine = status.bay.as_ref().and_then(|it| it.machine.clone());
        let _ = writeln!(out, "        requests go to {}", machine.as_deref().unwrap_or("nothing"));
        if let Some(sleep) = &status.sleep {
            let at = |it: Timestamp| span(it.duration_since(self.began));
            let signal = sleep.signal.map(|it| format!("{it:?}")).unwrap_or_default();
            let since = sleep.since.map(at).unwrap_or_default();
            let until = sleep.sleeps_at.map(at).unwrap_or_else(|| "-".to_owned());
            let _ = writeln!(out, "        sleep: {signal} since {since}, sleeps at {until}");
        }
        self.out.push_str(&out);
    }
}

/// What a pass did, in words.
fn tell(
    model: &Model,
    passed: &Passed,
    before: &hangar::api::environment::EnvironmentStatus,
) -> String {
    let plan = &passed.plan;
    let mut out = String::new();
    let level = if plan.note.level == Level::Warning { "! " } else { "" };
    match (&plan.action, plan.bind.is_some(), plan.release) {
        (Some(action), ..) => {
            let _ = writeln!(out, "        {} {action}", action.name());
        }
        (None, true, _) => out.push_str("        bind\n"),
        (None, _, true) => out.push_str("        release\n"),
        (None, false, false) => out.push_str("        wait\n"),
    }
    let _ = writeln!(out, "        {level}{:?}: {}", plan.note.reason, plan.note.message);
    if let Some(fault) = &passed.fault {
        let _ = writeln!(out, "        FAULT {fault:?}");
    }
    match &passed.outcome {
        Some(Outcome::Failed(refusal)) => {
            let _ = writeln!(out, "        failed, {:?}: {}", refusal.kind, refusal.message);
        }
        Some(Outcome::Machine { id, version, region, state }) => {
            let _ = writeln!(out, "        is machine {id} {version} in {region}, {state}");
        }
        Some(Outcome::Volume { id, region, size_gib }) => {
            let _ = writeln!(out, "        is volume {id} in {region}, {size_gib} GiB");
        }
        Some(Outcome::Connections(open)) => {
            let _ = writeln!(out, "        {open} open");
        }
        Some(Outcome::Exit(code)) => {
            let _ = writeln!(out, "        exit code {code}");
        }
        Some(Outcome::NotTakenOver { code, said }) => {
            let _ = writeln!(out, "        exit code {code}, {said:?}");
        }
        Some(Outcome::Done | Outcome::SecretsWritten { .. }) | None => {}
    }
    let status = &model.environment.status;
    if status.phase != before.phase {
        let _ = writeln!(out, "        {:?} -> {:?}", before.phase, status.phase);
    }
    let changed: Vec<_> = status
        .conditions
        .iter()
        .filter(|new| {
            !before
                .conditions
                .iter()
                .any(|old| (old.kind, old.status, old.reason) == (new.kind, new.status, new.reason))
        })
        .map(|it| {
            let sign = if it.status == Truth::True { '+' } else { '-' };
            format!("{sign}{:?}({:?})", it.kind, it.reason)
        })
        .collect();
    if !changed.is_empty() {
        let _ = writeln!(out, "        {}", changed.join(" "));
    }
    let deleting = model.environment.is_deleting();
    assert!(!plan.release || deleting, "released without being deleted");
    out
}

fn span(span: SignedDuration) -> String {
    let ms = span.as_millis();
    let (minutes, seconds, ms) = (ms / 60_000, ms / 1_000 % 60, ms % 1_000);
    let fraction = if ms == 0 { String::new() } else { format!(".{ms:03}") };
    if minutes == 0 {
        format!("{seconds}{fraction}s")
    } else {
        format!("{minutes}m{seconds:02}{fraction}s")
    }
}

fn fault(words: &[&str]) -> Fault {
    let kind = |word: &str| match word {
        "ambiguous" => RefusalKind::Ambiguous,
        "name-taken" => RefusalKind::NameTaken,
        "no-capacity" => RefusalKind::NoCapacity,
        "gone" => RefusalKind::Gone,
        "changed" => RefusalKind::Changed,
        "too-early" => RefusalKind::TooEarly,
        "other" => RefusalKind::Other,
        _ => panic!("not a fault: {word}"),
    };
    match words {
        ["crash", "before"] => Fault::CrashBefore,
        ["crash", "after"] => Fault::CrashAfter,
        ["not"] => Fault::Not,
        ["nothing"] => Fault::Nothing,
        [word, "late", span] => {
            let span = humantime::parse_duration(span).unwrap();
            Fault::Late(kind(word), SignedDuration::try_from(span).unwrap())
        }
        [word, "after-effect"] => Fault::After(kind(word)),
        [word] => Fault::Instead(kind(word)),
        _ => panic!("not a fault: {words:?}"),
    }
}

/// Sets a field of a specification; `-` removes it.
pub(crate) fn set<T: hangar::api::meta::Resource>(object: &mut T, path: &str, value: &str) {
    let mut tree = serde_json::to_value(&*object).unwrap();
    let (parents, last) = path.rsplit_once('.').map_or(("", path), |it| it);
    let mut place = &mut tree["spec"];
    for name in parents.split('.').filter(|it| !it.is_empty()) {
        place = &mut place[name];
    }
    if value == "-" {
        place.as_object_mut().unwrap().remove(last);
    } else {
        place[last] = serde_yaml::from_str(value).unwrap();
    }
    *object = serde_json::from_value(tree).unwrap();
}
