//! `hangar rollout`: how far a template's change has come, and a person's word about it, in kubectl's words. It must never change
//! an environment's machine itself: whose turn it is, the controller says.

use std::time::Duration;

use serde_json::json;

use crate::{
    api::{
        environment::Environment,
        kind::Kind,
        meta::ObjectRef,
        rollout::{self, CHANGE_CAUSE, FOLLOW, RESUMED, TemplateRevision},
        template::{Template, UpdateStrategy},
    },
    cli::{
        Exit,
        connection::Connection,
        failure::Failure,
        follow::Follow,
        get::{self, Output},
        printer::Printer,
        table,
        targets::{self, label},
        wait::duration,
    },
    client::{Client, Query, WatchEvent},
    clock::{Clock as _, System},
    plan::rollout::at_revision,
};

mod verdict;

use verdict::Verdict;

/// What to do.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Wait until every environment has a template's newest revision; exit code 1 when it fails or takes too long
    Status {
        /// template NAME or template/NAME
        #[arg(required = true, value_name = "TEMPLATE")]
        words: Vec<String>,
        /// Go on until it is done
        #[arg(short, long, action = clap::ArgAction::Set, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
        watch: bool,
        /// How long to wait; 0 waits without an end
        #[arg(long, default_value = "0", value_parser = duration)]
        timeout: Duration,
    },
    /// Keep a template's environments as they are for now; new ones get the newest revision
    Pause {
        /// template NAME… or template/NAME…
        #[arg(required = true, value_name = "TEMPLATE")]
        words: Vec<String>,
    },
    /// Let a change go on that is paused, waits for a person's word or was stopped; with an environment, only for that one
    Resume {
        /// template NAME…, template/NAME… or env/NAME…
        #[arg(required = true, value_name = "OBJECT")]
        words: Vec<String>,
    },
    /// Make an earlier revision the newest again
    Undo {
        /// template NAME or template/NAME
        #[arg(required = true, value_name = "TEMPLATE")]
        words: Vec<String>,
        /// Which; 0 is the last one that was another
        #[arg(long, default_value_t = 0)]
        to_revision: u64,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Show a template's revisions
    History {
        /// template NAME or template/NAME
        #[arg(required = true, value_name = "TEMPLATE")]
        words: Vec<String>,
        /// Show this one whole
        #[arg(long)]
        revision: Option<u64>,
    },
}

pub(super) async fn run(
    args: &Args,
    connection: &Connection,
    printer: &mut Printer,
) -> anyhow::Result<Exit> {
    let client = connection.client()?;
    let namespace = connection.namespace();
    let objects = targets::parse_named(args.verb.words(), &namespace)?;
    let resumes = matches!(args.verb, Verb::Resume { .. });
    let fits =
        |it: &&ObjectRef| it.kind == Kind::Template || (resumes && it.kind == Kind::Environment);
    if let Some(other) = objects.iter().find(|it| !fits(it)) {
        let message = format!("{} has no rollout", label(other));
        return Err(Failure::hinted(
            message,
            "templates have: hangar rollout status template/NAME",
        )
        .into());
    }
    let mut exit = Exit::Success;
    for object in &objects {
        let of = Of { client: &client, object };
        let done = match &args.verb {
            Verb::Status { watch, timeout, .. } => of.status(*watch, *timeout, printer).await?,
            Verb::Pause { .. } => of.pause(printer).await?,
            Verb::Resume { .. } if object.kind == Kind::Environment => of.follow(printer).await?,
            Verb::Resume { .. } => of.resume(printer).await?,
            Verb::Undo { to_revision, dry_run, .. } => {
                of.undo(*to_revision, *dry_run, printer).await?
            }
            Verb::History { revision, .. } => of.history(*revision, printer).await?,
        };
        if done != Exit::Success {
            exit = done;
        }
    }
    Ok(exit)
}

impl Verb {
    fn words(&self) -> &[String] {
        match self {
            Self::Status { words, .. }
            | Self::Pause { words }
            | Self::Resume { words }
            | Self::Undo { words, .. }
            | Self::History { words, .. } => words,
        }
    }
}

/// One object that something is said about.
struct Of<'a> {
    client: &'a Client,
    object: &'a ObjectRef,
}

impl Of<'_> {
    async fn status(
        &self,
        watch: bool,
        timeout: Duration,
        printer: &mut Printer,
    ) -> anyhow::Result<Exit> {
        let waiting = self.wait(watch, printer);
        if timeout.is_zero() {
            return waiting.await;
        }
        match tokio::time::timeout(timeout, waiting).await {
            Ok(ended) => ended,
            Err(_) => Err(Failure::new("timed out waiting for the condition").into()),
        }
    }

    async fn wait(&self, watch: bool, printer: &mut Printer) -> anyhow::Result<Exit> {
        let (kind, namespace) = (self.object.kind, Some(self.object.namespace.as_str()));
        let query = Query::name(&self.object.name);
        let list = self.client.list::<Template>(kind, namespace, &query).await?;
        let revision = &list.metadata.resource_version;
        let mut changes = Follow::<Template>::new(self.client, kind, namespace, &query, revision);
        let mut template = match list.items.into_iter().next() {
            Some(template) => template,
            None => self.client.get(self.object).await?,
        };
        let mut said = String::new();
        loop {
            match Verdict::of(&template) {
                Verdict::Done(why) => {
                    printer.line(why)?;
                    return Ok(Exit::Success);
                }
                Verdict::Failed(why, hint) => return Err(Failure::hinted(why, hint).into()),
                Verdict::NotYet(why) if why != said => {
                    printer.line(&why)?;
                    printer.flush()?;
                    said = why;
                }
                Verdict::NotYet(_) => {}
            }
            if !watch {
                return Ok(Exit::Success);
            }
            template = match changes.next(printer).await? {
                WatchEvent::Added(it) | WatchEvent::Modified(it) => it,
                WatchEvent::Deleted(_) => {
                    return Err(Failure::new("the template has been deleted").into());
                }
                WatchEvent::Bookmark(_) => continue,
            };
        }
    }

    async fn pause(&self, printer: &mut Printer) -> anyhow::Result<Exit> {
        let template: Template = self.client.get(self.object).await?;
        if template.spec.update.as_ref().is_some_and(|it| it.paused) {
            return Err(Failure::new(format!("{} is already paused", label(self.object))).into());
        }
        let patch = json!({"spec": {"update": {"paused": true}}});
        self.client.merge_patch::<Template>(self.object, &patch, false).await?;
        printer.line(format_args!("{} paused", label(self.object)))?;
        Ok(Exit::Success)
    }

    async fn resume(&self, printer: &mut Printer) -> anyhow::Result<Exit> {
        let template: Template = self.client.get(self.object).await?;
        let paused = template.spec.update.as_ref().is_some_and(|it| it.paused);
        let manual =
            template.spec.update.as_ref().is_some_and(|it| it.strategy == UpdateStrategy::Manual);
        let status = &template.status;
        let word_of = status.resumed.as_ref().filter(|it| it.revision == status.revision);
        let awaits_word = status.is_stopped() || (manual && word_of.is_none());
        if !paused && !awaits_word {
            return Err(Failure::new(format!("{} is not paused", label(self.object))).into());
        }
        let mut patch = json!({});
        if paused {
            patch["spec"]["update"]["paused"] = json!(null);
        }
        if awaits_word {
            let now = System::new().now();
            patch["metadata"]["annotations"][RESUMED] = json!(now.to_string());
        }
        self.client.merge_patch::<Template>(self.object, &patch, false).await?;
        printer.line(format_args!("{} resumed", label(self.object)))?;
        Ok(Exit::Success)
    }

    /// One environment follows its template now.
    async fn follow(&self, printer: &mut Printer) -> anyhow::Result<Exit> {
        let environment: Environment = self.client.get(self.object).await?;
        let name = &environment.spec.template_ref.name;
        let template = ObjectRef::new(Kind::Template, &self.object.namespace, name);
        let template: Template = self.client.get(&template).await?;
        let newest = template.status.newest();
        if environment.status.template.is_some_and(|it| it.hash == newest.hash) {
            let message =
                format!("{} has revision {} already", label(self.object), newest.revision);
            return Err(Failure::new(message).into());
        }
        let patch = json!({"metadata": {"annotations": {FOLLOW: newest.revision.to_string()}}});
        self.client.merge_patch::<Environment>(self.object, &patch, false).await?;
        printer.line(format_args!("{} resumed", label(self.object)))?;
        Ok(Exit::Success)
    }

    async fn undo(
        &self,
        to_revision: u64,
        dry_run: bool,
        printer: &mut Printer,
    ) -> anyhow::Result<Exit> {
        let template: Template = self.client.get(self.object).await?;
        let (status, name) = (&template.status, &self.object.name);
        if template.spec.update.as_ref().is_some_and(|it| it.paused) {
            let hint = format!("hangar rollout resume template/{name}");
            return Err(Failure::hinted("a paused template is not rolled back", hint).into());
        }
        let other =
            |revision: u64| status.recorded(revision).is_some_and(|it| it.hash != status.hash);
        let last = status.history.iter().map(|it| it.revision).rfind(|it| other(*it));
        let to = if to_revision == 0 { last } else { Some(to_revision) };
        let Some(to) = to else {
            return Err(
                Failure::new(format!("no earlier revision of template {name} is kept")).into()
            );
        };
        if to == status.revision || (status.recorded(to).is_some() && !other(to)) {
            printer.line(format_args!(
                "{} skipped rollback (the template already matches revision {to})",
                label(self.object)
            ))?;
            return Ok(Exit::Success);
        }
        let kept = self.revision(to).await?;
        let mut then = at_revision(template.clone(), &kept.spec.template);
        if let (Some(volume), Some(now)) = (&mut then.spec.volume, &template.spec.volume)
            && volume.size.bytes() < now.size.bytes()
        {
            volume.size = now.size.clone();
            printer.note(format_args!(
                "volumes cannot shrink: volume.size stays {}",
                now.size.as_str()
            ));
        }
        let annotations = &mut then.metadata.annotations;
        annotations.remove(CHANGE_CAUSE);
        annotations.extend(kept.spec.change_cause.map(|it| (CHANGE_CAUSE.to_owned(), it)));
        self.client.update(self.object, &then, dry_run).await?;
        let done = if dry_run { "rolled back (dry run)" } else { "rolled back" };
        printer.line(format_args!("{} {done}", label(self.object)))?;
        Ok(Exit::Success)
    }

    async fn revision(&self, revision: u64) -> anyhow::Result<TemplateRevision> {
        let name = rollout::name(&self.object.name, revision);
        let kept = ObjectRef::new(Kind::TemplateRevision, &self.object.namespace, &name);
        match self.client.get(&kept).await {
            Ok(found) => Ok(found),
            Err(error) if error.is_not_found() => {
                let hint = format!("hangar rollout history template/{}", self.object.name);
                Err(Failure::hinted(format!("revision {revision} is not kept"), hint).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn history(&self, revision: Option<u64>, printer: &mut Printer) -> anyhow::Result<Exit> {
        let template: Template = self.client.get(self.object).await?;
        if let Some(revision) = revision {
            let kept = self.revision(revision).await?;
            printer.line(format_args!("{} with revision #{revision}", label(self.object)))?;
            get::print(&serde_json::to_value(&kept.spec.template)?, Output::Yaml, printer)?;
            return Ok(Exit::Success);
        }
        let (namespace, query) = (Some(self.object.namespace.as_str()), Query::default());
        let all = self.client.list::<TemplateRevision>(Kind::TemplateRevision, namespace, &query);
        let all = all.await?.items;
        let rows = template.status.history.iter().map(|it| {
            let name = rollout::name(&self.object.name, it.revision);
            let kept = all.iter().find(|kept| kept.metadata.name == name);
            let cause = kept.and_then(|it| it.spec.change_cause.clone());
            let newest = it.revision == template.status.revision;
            vec![
                it.revision.to_string(),
                it.hash.clone(),
                format!("{:.0}", it.at),
                if newest { "newest".to_owned() } else { String::new() },
                cause.unwrap_or_else(|| "<none>".to_owned()),
            ]
        });
        printer.line(label(self.object))?;
        let headings = ["Revision", "Hash", "Recorded", "", "Change-Cause"];
        for line in table::lines(&headings, rows.collect()) {
            printer.line(line)?;
        }
        Ok(Exit::Success)
    }
}
