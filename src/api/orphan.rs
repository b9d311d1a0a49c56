//! Orphan: something at Fly that the store does not account for, or the reverse, with the evidence for it. Types, and what a
//! person may order; controller-owned. It must never decide whether something is one.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{
    environment::Environment,
    meta::{Resource as _, resource},
};

resource! {
    /// Something at Fly that carries hangar's mark and that the store does not account for, or something that the store records
    /// and Fly does not have.
    Orphan {
        /// What it is, and how that is known.
        #[serde(default)]
        status: OrphanStatus,
    }
}

/// What an orphan is, and how that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OrphanStatus {
    /// Which of the two sides has it.
    pub side: Side,
    /// What it is.
    pub what: OrphanWhat,
    /// Its app at Fly.
    pub app: String,
    /// Fly's id; an app's name.
    pub id: String,
    /// How sure it is.
    pub phase: OrphanPhase,
    /// Which installation made it. Only what this one made can be acted on.
    pub made_by: MadeBy,
    /// Environment that it was made for, as its marks or the store say: `env/alice`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Uid of the bay that it belongs to, as its marks or the store say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bay_uid: Option<String>,
    /// How it is known.
    pub evidence: Evidence,
    /// Machines, an app's or itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<OrphanMachine>,
    /// Volumes, an app's or itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<OrphanVolume>,
    /// What it costs in 30 days, estimated, in millionths of a dollar.
    pub monthly_cost_microdollars: u64,
    /// What a person ordered to be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
}

/// Which of the two sides has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Side {
    /// Fly has it, and the store does not account for it.
    #[default]
    Unaccounted,
    /// The store records it, and Fly does not have it.
    Lost,
}

/// What an orphan is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
pub enum OrphanWhat {
    /// An app, with all in it.
    #[default]
    App,
    /// A machine in an app that is accounted for.
    Machine,
    /// A volume in an app that is accounted for.
    Volume,
}

/// How sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum OrphanPhase {
    /// It is younger than a creation under way may be: nothing can be done about it yet.
    #[default]
    Pending,
    /// It was seen in several complete lists and is old enough.
    Confirmed,
}

/// Which installation of hangar made something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum MadeBy {
    /// This one: every mark on it says so.
    This,
    /// Another one. It is never touched.
    Another,
    /// Its marks do not say.
    #[default]
    Unknown,
}

/// How it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Evidence {
    /// When the first complete list began that showed it so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub first_seen_at: Option<Timestamp>,
    /// When the complete list began that confirmed it. It was so in every one since.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub confirmed_at: Option<Timestamp>,
    /// When Fly says it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub created_at: Option<Timestamp>,
    /// Lists and marks, in a sentence.
    pub message: String,
}

/// A machine of an orphan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OrphanMachine {
    /// Fly's id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Region.
    pub region: String,
    /// State, as last listed.
    pub state: String,
    /// Uid of its bay, where its metadata has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bay_uid: Option<String>,
    /// Epoch, where its metadata has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
}

/// A volume of an orphan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OrphanVolume {
    /// Fly's id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Region.
    pub region: String,
    /// Size.
    pub size_gib: u32,
}

/// What a person ordered to be done about an orphan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Order {
    /// What.
    pub verb: Verb,
    /// `Adopt`: the environment that it is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<OrderTarget>,
    /// When it was ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub ordered_at: Option<Timestamp>,
    /// When everything was first read by itself and was as recorded here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub proven_at: Option<Timestamp>,
    /// When the last call was ordered; written before it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub acted_at: Option<Timestamp>,
    /// How far it is.
    pub state: OrderState,
    /// The same in a sentence.
    pub message: String,
}

/// What can be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Verb {
    /// Bind it to an environment that has no bay.
    Adopt,
    /// Destroy it, id by id.
    #[default]
    Delete,
}

/// An environment by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderTarget {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// How far an order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum OrderState {
    /// It is proven, and then carried out.
    #[default]
    Working,
    /// It was not carried out, or not further: the message says why.
    Refused,
}

impl Order {
    /// Whether something is still to be done about it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == OrderState::Working
    }
}

impl OrphanStatus {
    /// What an order would do, step by step, as far as the evidence says.
    ///
    /// # Errors
    /// A sentence that says why it cannot be ordered.
    pub fn course(&self, verb: Verb) -> Result<Vec<String>, String> {
        let id = &self.id;
        if self.side == Side::Lost {
            return Err(format!(
                "{id} is not at Fly, so there is nothing to act on: `hangar describe` of its environment says what hangar \
                 does about it"
            ));
        }
        match self.made_by {
            MadeBy::This => {}
            MadeBy::Another => {
                return Err(format!("{id} was made by another installation of hangar"));
            }
            MadeBy::Unknown => {
                return Err(format!(
                    "nothing on {id} proves that this installation made it: look at it, and remove it with Fly's own tools"
                ));
            }
        }
        if self.phase == OrphanPhase::Pending {
            return Err(format!("{id} is too young: what created it may still be under way"));
        }
        match verb {
            Verb::Delete => Ok(self.deletion()),
            Verb::Adopt => self.adoption(),
        }
    }

    fn deletion(&self) -> Vec<String> {
        let mut steps =
            vec!["read all of it by id, twice, and stop unless it is as listed here".to_owned()];
        steps.extend(self.machines.iter().map(|it| format!("destroy machine {}", it.id)));
        steps.extend(self.volumes.iter().map(|it| {
            format!("destroy volume {} of {} GiB and everything on it", it.id, it.size_gib)
        }));
        if self.what == OrphanWhat::App {
            steps.push(format!("delete app {}, once nothing is in it", self.app));
        }
        steps
    }

    fn adoption(&self) -> Result<Vec<String>, String> {
        if self.what != OrphanWhat::App {
            return Err(format!(
                "only a whole app can be adopted, and {} is in one that is accounted for",
                self.id
            ));
        }
        let uid = self.bay_uid.as_ref().filter(|_| !self.machines.is_empty());
        let Some(uid) = uid else {
            return Err(format!(
                "no machine in app {} says whose it was, so its data cannot be given to anybody",
                self.app
            ));
        };
        let newest = self.newest().ok_or_else(|| {
            format!(
                "app {} has no machine of its own with an epoch, or several of the last",
                self.app
            )
        })?;
        let mut steps = vec![
            "read all of it by id, twice, and stop unless it is as listed here".to_owned(),
            format!(
                "write a bay with uid {uid}, machine {}{}, and bind the environment to it",
                newest.id,
                self.volumes.iter().map(|it| format!(", volume {}", it.id)).collect::<String>()
            ),
        ];
        steps.push("give the app a new key, which restarts the machine".to_owned());
        Ok(steps)
    }

    /// The machine of the highest epoch, if there is exactly one.
    #[must_use]
    pub fn newest(&self) -> Option<&OrphanMachine> {
        let epoch = self.machines.iter().filter_map(|it| it.epoch).max()?;
        let mut newest = self.machines.iter().filter(|it| it.epoch == Some(epoch));
        newest.next().filter(|_| newest.next().is_none())
    }

    /// Name of the bay that it was, which its app's name tells.
    #[must_use]
    pub fn bay_name(&self) -> Option<String> {
        self.app.strip_prefix("hgr-").map(|it| format!("bay-{it}"))
    }

    /// Whether it can be bound to this environment.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn fits(&self, environment: &Environment) -> Result<(), String> {
        let target = environment.object_ref().to_string();
        if environment.is_deleting() {
            return Err(format!("{target} is being deleted"));
        }
        if let Some(bay) = &environment.status.bay
            && Some(&bay.name) != self.bay_name().as_ref()
        {
            return Err(format!("{target} has a bay already: {}", bay.name));
        }
        match &self.environment {
            Some(marked) if *marked == target => Ok(()),
            Some(marked) => Err(format!(
                "its machine was made for {marked}: it is never given to another environment, whose user may be another"
            )),
            None => Err("its machine does not say for which environment it was made".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orphan() -> OrphanStatus {
        let machine = |id: &str, epoch| OrphanMachine {
            id: id.to_owned(),
            epoch: Some(epoch),
            ..OrphanMachine::default()
        };
        OrphanStatus {
            app: "hgr-abc".to_owned(),
            id: "hgr-abc".to_owned(),
            phase: OrphanPhase::Confirmed,
            made_by: MadeBy::This,
            environment: Some("env/alice".to_owned()),
            bay_uid: Some("b1".to_owned()),
            machines: vec![machine("m1", 1), machine("m2", 2)],
            volumes: vec![OrphanVolume {
                id: "vol_1".to_owned(),
                size_gib: 10,
                ..OrphanVolume::default()
            }],
            ..OrphanStatus::default()
        }
    }

    #[test]
    fn what_an_order_would_do_is_said_before() {
        assert_eq!(
            orphan().course(Verb::Delete).unwrap()[1..],
            [
                "destroy machine m1",
                "destroy machine m2",
                "destroy volume vol_1 of 10 GiB and everything on it",
                "delete app hgr-abc, once nothing is in it",
            ]
        );
        let adoption = orphan().course(Verb::Adopt).unwrap();
        assert!(adoption[1].contains("uid b1, machine m2, volume vol_1"), "{adoption:?}");
    }

    #[test]
    fn what_cannot_be_proven_to_be_ours_and_settled_cannot_be_ordered() {
        let refused = |change: fn(&mut OrphanStatus)| {
            let mut orphan = orphan();
            change(&mut orphan);
            orphan.course(Verb::Delete).is_err() && orphan.course(Verb::Adopt).is_err()
        };
        assert!(refused(|it| it.made_by = MadeBy::Another));
        assert!(refused(|it| it.made_by = MadeBy::Unknown));
        assert!(refused(|it| it.phase = OrphanPhase::Pending));
        assert!(refused(|it| it.side = Side::Lost));
        let adoption = |change: fn(&mut OrphanStatus)| {
            let mut orphan = orphan();
            change(&mut orphan);
            orphan.course(Verb::Adopt).is_err()
        };
        assert!(adoption(|it| it.machines.clear()));
        assert!(adoption(|it| it.bay_uid = None));
        assert!(adoption(|it| it.machines[0].epoch = Some(2)), "two of the last epoch");
        assert!(adoption(|it| it.what = OrphanWhat::Machine));
    }

    #[test]
    fn data_is_given_back_to_the_environment_that_it_was_made_for_and_to_no_other() {
        let environment = |name: &str, bay: Option<&str>| -> Environment {
            let mut environment: Environment = serde_yaml::from_str(&format!(
                "{{apiVersion: hangar.dev/v1alpha1, kind: Environment, metadata: {{name: {name}, namespace: default}}, \
                 spec: {{templateRef: {{name: t}}}}}}"
            ))
            .unwrap();
            environment.status.bay = bay.map(|it| crate::api::environment::BayRef {
                name: it.to_owned(),
                ..Default::default()
            });
            environment
        };
        assert_eq!(orphan().fits(&environment("alice", None)), Ok(()));
        assert_eq!(orphan().fits(&environment("alice", Some("bay-abc"))), Ok(()), "its own, lost");
        assert!(orphan().fits(&environment("alice", Some("bay-xyz"))).is_err());
        assert!(orphan().fits(&environment("bob", None)).is_err());
        let unmarked = OrphanStatus { environment: None, ..orphan() };
        assert!(unmarked.fits(&environment("alice", None)).is_err());
    }
}
