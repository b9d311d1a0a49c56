//! What is done to a controller, and what is there at the end. It must never know at what moment the controller dies.

use std::{collections::BTreeMap, path::Path};

use hangar::{
    api::{kind::Kind, meta::ObjectRef},
    client::{self, Client, Query},
};
use serde_json::{Value, json};

use crate::{
    until::until,
    world::{PATIENCE, World},
};

/// Something that users, or others at Fly, do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    /// Two environments are declared, one with a volume and a secret.
    Create,
    /// One of them and its secret are changed.
    Update,
    /// It is put to sleep by order, and woken.
    Sleep,
    /// Its machine is destroyed behind the controller's back.
    Repair,
    /// It is deleted.
    Delete,
}

/// What is there at the end: of each environment what was declared and what Fly has, ids left out where they were made on
/// the way.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ending(BTreeMap<String, Value>);

impl Course {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Sleep => "sleep",
            Self::Repair => "repair",
            Self::Delete => "delete",
        }
    }

    /// Leaves what the course begins with in a directory.
    pub(crate) async fn prepare(self, at: &Path) {
        if self == Self::Create {
            return;
        }
        let mut world = World::begin(at, None).await;
        Self::Create.walk(&mut world).await;
        world.leave(at);
    }

    pub(crate) async fn walk(self, world: &mut World) {
        match self {
            Self::Create => {
                for (name, volume) in
                    [("kept", json!({"mountPath": "/data", "size": "1Gi"})), ("bare", Value::Null)]
                {
                    put(world, Kind::Template, name, json!({"spec": template(volume)})).await;
                }
                put(world, Kind::Secret, "keys", json!({"stringData": {"KEY": "one"}})).await;
                let alice = json!({"secrets": [{"name": "keys"}], "env": {"GREETING": "one"}});
                put(world, Kind::Environment, "alice", environment("kept", alice)).await;
                world.settled("alice", "Ready").await;
                put(world, Kind::Environment, "bob", environment("bare", json!({}))).await;
                world.settled("bob", "Ready").await;
            }
            Self::Update => {
                put(world, Kind::Secret, "keys", json!({"stringData": {"KEY": "two"}})).await;
                put(
                    world,
                    Kind::Environment,
                    "alice",
                    json!({"spec": {"env": {"GREETING": "two"}}}),
                )
                .await;
                world.settled("alice", "Ready").await;
            }
            Self::Sleep => {
                for (mode, phase) in [("Asleep", "Asleep"), ("Running", "Ready")] {
                    put(
                        world,
                        Kind::Environment,
                        "alice",
                        json!({"spec": {"operatingMode": mode}}),
                    )
                    .await;
                    world.settled("alice", phase).await;
                }
            }
            Self::Repair => {
                let before = world.environment("alice").await["status"]["bay"].take();
                let [app, machine] = ["app", "machine"].map(|it| before[it].as_str().unwrap());
                world.delete_at_fly(&format!("/v1/apps/{app}/machines/{machine}?force=true")).await;
                until("another machine", PATIENCE, async || {
                    let bay = world.environment("alice").await["status"]["bay"].take();
                    if bay["machine"].is_string() && bay["machine"] != machine {
                        Ok(())
                    } else {
                        Err(bay.to_string())
                    }
                })
                .await;
                world.settled("alice", "Ready").await;
            }
            Self::Delete => {
                world
                    .insist("the deletion", async |client: Client| {
                        gone(client.delete(&named(Kind::Environment, "alice"), false).await)
                    })
                    .await;
                until("the end of alice", PATIENCE, async || {
                    let alice = world.insist("a look", async |client: Client| {
                        gone(client.get::<Value>(&named(Kind::Environment, "alice")).await)
                    });
                    alice.await.map_or(Ok(()), |it| Err(it["status"].to_string()))
                })
                .await;
            }
        }
    }

    /// What is there, once it is the same at two looks.
    pub(crate) async fn ending(self, world: &mut World) -> Ending {
        let mut before = None;
        until("everything to be as it was a moment ago", PATIENCE, async || {
            let now = world.ending(self == Self::Create).await;
            if before.as_ref() == Some(&now) {
                return Ok(now);
            }
            let told = format!("{now:?}");
            before = Some(now);
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            Err(told)
        })
        .await
    }
}

impl World {
    async fn environment(&mut self, name: &str) -> Value {
        self.insist("a look", async |client: Client| {
            client.get(&named(Kind::Environment, name)).await
        })
        .await
    }

    /// Waits until what is declared of an environment was seen, and it is in this phase.
    async fn settled(&mut self, name: &str, phase: &str) {
        until(&format!("{name} to be {phase}"), PATIENCE, async || {
            let it = self.environment(name).await;
            let seen = it["status"]["observedGeneration"] == it["metadata"]["generation"];
            if seen && it["status"]["phase"] == phase {
                Ok(())
            } else {
                Err(it["status"].to_string())
            }
        })
        .await;
    }

    async fn ending(&mut self, ids_are_new: bool) -> Ending {
        let all = self.insist("a look", async |client: Client| {
            client.list::<Value>(Kind::Environment, Some("default"), &Query::default()).await
        });
        let all = all.await.items;
        let fly = [
            self.fly("/v1/apps?org_slug=personal").await["apps"].take(),
            self.fly("/v1/orgs/personal/machines?include_deleted=true").await["machines"].take(),
            self.fly("/v1/orgs/personal/volumes").await["volumes"].take(),
        ];
        let [apps, machines, volumes] = fly.map(|it| match it {
            Value::Array(items) => items,
            other => panic!("not a list: {other}"),
        });
        let mut ending = BTreeMap::new();
        for it in &all {
            let bay = &it["status"]["bay"];
            let app = bay["app"].as_str().unwrap_or_default();
            let of_app = |it: &&Value| it["app_name"] == app;
            let ever: Vec<_> = machines.iter().filter(of_app).collect();
            let live = ever.iter().filter(|it| it["state"] != "destroyed");
            let live: Vec<_> = live.map(|it| it["id"].as_str().unwrap()).collect();
            let mut running = Vec::new();
            for id in &live {
                let machine = self.fly(&format!("/v1/apps/{app}/machines/{id}")).await;
                let config = &machine["config"];
                running.push(json!([machine["state"], config["image"], config["env"]["GREETING"]]));
            }
            let secrets = self.fly(&format!("/v1/apps/{app}/secrets")).await;
            let secrets = secrets["secrets"].as_array().into_iter().flatten();
            let given = secrets.filter(|it| it["name"] == "KEY").map(|it| &it["digest"]);
            let volumes = volumes.iter().filter(of_app);
            let volumes = volumes.map(|it| if ids_are_new { &Value::Null } else { &it["id"] });
            let declared = json!({
                "phase": it["status"]["phase"],
                "seen": it["status"]["observedGeneration"] == it["metadata"]["generation"],
                "epoch": bay["epoch"],
                "is the recorded machine": live.iter().all(|it| bay["machine"] == *it),
                "machines": running,
                "machines ever": ever.len(),
                "volumes": volumes.collect::<Vec<_>>(),
                "secret": given.collect::<Vec<_>>(),
            });
            ending.insert(it["metadata"]["name"].as_str().unwrap().to_owned(), declared);
        }
        let there =
            json!({"apps": apps.len(), "machines ever": machines.len(), "volumes": volumes.len()});
        ending.insert("all".to_owned(), there);
        Ending(ending)
    }
}

fn template(volume: Value) -> Value {
    json!({"machine": {"image": "hangar.dev/sample-app:1"}, "volume": volume, "services": [{"name": "web", "internalPort": 8080}],
        "regions": ["ams"], "sleep": {"after": "1h"}, "update": {"strategy": "Rolling"}})
}

fn environment(template: &str, more: Value) -> Value {
    let mut spec =
        json!({"templateRef": {"name": template}, "owner": "a@example.com", "access": "Public"});
    let Value::Object(more) = more else { panic!("{more}") };
    spec.as_object_mut().unwrap().extend(more);
    json!({"spec": spec})
}

fn named(kind: Kind, name: &str) -> ObjectRef {
    ObjectRef::new(kind, "default", name)
}

/// Nothing, if that is what there is.
fn gone<T>(result: Result<T, client::Error>) -> Result<Option<T>, client::Error> {
    match result {
        Err(client::Error::Status(status)) if status.code == 404 => Ok(None),
        other => other.map(Some),
    }
}

/// Makes an object, or changes it.
async fn put(world: &mut World, kind: Kind, name: &str, body: Value) {
    world
        .insist(&format!("{name} to be taken"), async |client: Client| {
            let target = named(kind, name);
            if gone(client.get::<Value>(&target).await)?.is_some() {
                return client.merge_patch::<Value>(&target, &body, false).await;
            }
            let mut new = body.clone();
            new["metadata"] = json!({"name": name});
            client.create(kind, "default", &new, false).await
        })
        .await;
}
