//! Holds: raising one, reading what there is, and the look at Fly that a new installation begins with. It must never lift one,
//! which is a person's, but the one that Fly itself has refuted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::{
    hold::{Held, Hold, HoldReason},
    kind::Kind,
};
use crate::chance::{self, Chance};
use crate::clock::Timestamp;
use crate::reconcile::objects::key;
use crate::store::{
    Error, Key, Precondition, Revision,
    handle::{Store, Write},
};

/// Where it is kept that the first complete list was looked at.
const FIRST_LIST: &str = "meta/first-list";

/// What the first complete list of a new installation showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FirstList {
    at: Timestamp,
    /// Machines of other installations, by installation.
    others: BTreeMap<String, usize>,
}

/// The time, and where uids are drawn.
pub type Drawn<'a> = (Timestamp, &'a dyn Chance);

/// Raises a hold, unless there is one for this reason; the store's revision after that.
///
/// # Errors
/// The store's.
pub async fn raise(
    store: &Store,
    reason: HoldReason,
    message: &str,
    drawn: Drawn<'_>,
) -> Result<Revision, Error> {
    match raised(store.txn(), reason, message, drawn).commit().await {
        Ok(revision) => Ok(revision),
        Err(Error::Conflict { current, .. }) => Ok(current.unwrap_or(Revision(0))),
        Err(error) => Err(error),
    }
}

/// Lifts the hold that Fly has refuted.
///
/// # Errors
/// The store's.
pub(crate) async fn lift_mass_absence(store: &Store) -> Result<(), Error> {
    tracing::warn!("what was missing is seen again: things are made, replaced and destroyed again");
    let hold = key(Kind::Hold, "", HoldReason::MassAbsence.name());
    store.txn().delete(&hold, Precondition::Any).commit().await.map(drop)
}

fn raised(txn: Write, reason: HoldReason, message: &str, (now, chance): Drawn<'_>) -> Write {
    tracing::warn!(reason = reason.name(), message, "it is held back until `hangar resume`");
    let uid = chance::uuid(chance).to_string();
    let hold = Hold::because(reason, message, uid, now);
    txn.put(&key(Kind::Hold, "", reason.name()), Precondition::Absent, &hold)
}

/// Every hold there is.
///
/// # Errors
/// The store's.
pub async fn all(store: &Store) -> Result<Vec<Hold>, Error> {
    let (holds, _) = store.list::<Hold>(&format!("{}/", Kind::Hold.info().plural)).await?;
    Ok(holds.into_iter().map(|it| it.value).collect())
}

/// What the holds keep from being done, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holding {
    /// Why nothing may be destroyed.
    pub(crate) destroying: Option<String>,
    /// Why nothing may be made in the place of what is gone.
    pub(crate) replacing: Option<String>,
    /// Why nothing may be made.
    pub(crate) creating: Option<String>,
    /// Why the holds were raised.
    pub(crate) reasons: Vec<HoldReason>,
    /// The revision at which that was so.
    pub(crate) at: Revision,
}

/// What is held back now.
pub(crate) async fn holding(store: &Store) -> Result<Holding, Error> {
    let (holds, at) = store.list::<Hold>(&format!("{}/", Kind::Hold.info().plural)).await?;
    let holds: Vec<_> = holds.into_iter().map(|it| it.value).collect();
    Ok(Holding { at, ..Holding::by(&holds) })
}

impl Holding {
    /// What these holds keep from being done.
    #[must_use]
    pub fn by(holds: &[Hold]) -> Self {
        let why = |held: &[Held]| {
            let mut holds = holds.iter().filter(|it| held.contains(&it.spec.what));
            let first = holds.next()?;
            let more = match holds.count() {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            Some(said(&format!("{}{more}", first.spec.message)))
        };
        Self {
            destroying: why(&[Held::Destroying, Held::Replacing, Held::Making]),
            replacing: why(&[Held::Replacing, Held::Making]),
            creating: why(&[Held::Making]),
            reasons: holds.iter().map(|it| it.spec.reason).collect(),
            at: Revision(0),
        }
    }
}

/// A hold's message, and what to do about it.
pub(crate) fn said(message: &str) -> String {
    format!("{message}; `hangar resume` lifts this")
}

/// Looks at the first complete list that an installation ever had. A store that is new while Fly has machines of another
/// installation may be the other one's, lost.
pub(crate) async fn first_list(
    store: &Store,
    instance: &str,
    marked: BTreeMap<String, usize>,
    (now, chance): Drawn<'_>,
) -> Result<(), Error> {
    let looked = Key::new(FIRST_LIST);
    if store.get::<FirstList>(&looked).await?.is_some() {
        return Ok(());
    }
    let others: BTreeMap<_, _> =
        marked.into_iter().filter(|(other, _)| other != instance).collect();
    let txn = store.txn();
    let txn = if others.is_empty() {
        txn
    } else {
        let machines: usize = others.values().sum();
        let ids: Vec<_> = others.keys().map(String::as_str).collect();
        let message = format!(
            "this store is new, and Fly has {machines} machines of another installation ({}): was its store lost?",
            ids.join(", ")
        );
        raised(txn, HoldReason::OtherInstance, &message, (now, chance))
    };
    match txn.put(&looked, Precondition::Absent, &FirstList { at: now, others }).commit().await {
        Ok(_) | Err(Error::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{crypt::Cipher, memory::Memory};

    fn store() -> Store {
        Store::new(Arc::new(Memory::new()), Cipher::ephemeral().unwrap(), &[])
    }

    async fn destroying(store: &Store) -> Option<String> {
        holding(store).await.unwrap().destroying
    }

    fn marked(instance: &str) -> BTreeMap<String, usize> {
        BTreeMap::from([(instance.to_owned(), 2)])
    }

    #[tokio::test]
    async fn a_hold_says_why_and_is_there_once() {
        let (store, now) = (store(), (Timestamp::UNIX_EPOCH, &chance::System as &dyn Chance));
        assert_eq!(destroying(&store).await, None);
        raise(&store, HoldReason::Restored, "it was restored", now).await.unwrap();
        raise(&store, HoldReason::Restored, "it was restored again", now).await.unwrap();
        let why = destroying(&store).await.unwrap();
        assert_eq!(why, "it was restored; `hangar resume` lifts this");
        raise(&store, HoldReason::OpenedEmpty, "it was empty", now).await.unwrap();
        let why = destroying(&store).await.unwrap();
        assert_eq!(why, "it was empty (and 1 more); `hangar resume` lifts this");
    }

    #[tokio::test]
    async fn machines_of_another_installation_hold_a_new_store_once() {
        let (store, now) = (store(), (Timestamp::UNIX_EPOCH, &chance::System as &dyn Chance));
        first_list(&store, "ours", marked("theirs"), now).await.unwrap();
        let why = destroying(&store).await.unwrap();
        assert!(why.contains("2 machines of another installation (theirs)"), "{why}");
        // Once a person has spoken it does not come back at the next start.
        let hold = key(Kind::Hold, "", HoldReason::OtherInstance.name());
        store.txn().delete(&hold, Precondition::Any).commit().await.unwrap();
        first_list(&store, "ours", marked("theirs"), now).await.unwrap();
        assert_eq!(destroying(&store).await, None);
    }

    #[tokio::test]
    async fn a_new_store_with_nothing_at_fly_needs_no_word_ever() {
        let (store, now) = (store(), (Timestamp::UNIX_EPOCH, &chance::System as &dyn Chance));
        first_list(&store, "ours", BTreeMap::new(), now).await.unwrap();
        first_list(&store, "ours", marked("theirs"), now).await.unwrap();
        assert_eq!(destroying(&store).await, None);
        let store = self::store();
        first_list(&store, "ours", marked("ours"), now).await.unwrap();
        assert_eq!(destroying(&store).await, None);
    }
}
