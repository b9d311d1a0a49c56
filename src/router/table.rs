//! The table that requests are answered from: label to route, edited in place while it is read. It must never be keyed by a
//! hash alone (a collision would answer with another user's environment), nor make a reader wait for a writer.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::router::packed::{App, Label};

/// What a route says. Four of them belong to the environment, two to its provisioning, two to the label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag(u8);

impl Flag {
    /// Everybody may reach it.
    pub const PUBLIC: Self = Self(1);
    /// Put to sleep by order; requests must not wake it.
    pub const ASLEEP: Self = Self(1 << 1);
    /// It does not serve and will not soon.
    pub const BROKEN: Self = Self(1 << 2);
    /// The environment is deleted or being deleted.
    pub const DELETED: Self = Self(1 << 3);
    /// There is a machine that may serve.
    pub const MACHINE: Self = Self(1 << 4);
    /// There is a key.
    pub const KEY: Self = Self(1 << 5);
    /// The label was given up.
    pub const RELEASED: Self = Self(1 << 6);
    /// The label's holder does not list it.
    pub const UNLISTED: Self = Self(1 << 7);
}

/// Where a label leads, in 44 bytes.
///
/// Kept in words of four bytes: with the label before it an entry of the table has 72 bytes and no padding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Route {
    app: App,
    key: [u8; 16],
    /// 56 bits of machine id under 8 bits of flags.
    word: [u32; 2],
    slot: u32,
}

impl Route {
    /// A route to nowhere yet, of the environment in this slot.
    #[must_use]
    pub fn new(slot: u32) -> Self {
        Self { app: App::EMPTY, key: [0; 16], word: [0; 2], slot }
    }

    /// The same with an app and the machine in it that may serve.
    #[must_use]
    pub fn to(mut self, app: App, machine: Machine) -> Self {
        self.app = app;
        let [a, b, c, d, e, f, g, _] = machine.0.to_le_bytes();
        self.word[0] = u32::from_le_bytes([a, b, c, d]);
        self.word[1] = u32::from_le_bytes([e, f, g, 0]) | (self.word[1] & 0xff00_0000);
        self.with(Flag::MACHINE, true)
    }

    /// The same with another key, or none.
    #[must_use]
    pub fn keyed(mut self, key: Option<[u8; 16]>) -> Self {
        self.key = key.unwrap_or_default();
        self.with(Flag::KEY, key.is_some())
    }

    /// The same with the flag set or cleared.
    #[must_use]
    pub fn with(mut self, flag: Flag, on: bool) -> Self {
        let bit = u32::from(flag.0) << 24;
        self.word[1] = if on { self.word[1] | bit } else { self.word[1] & !bit };
        self
    }

    /// The same for an environment with another number.
    #[must_use]
    pub fn in_slot(mut self, slot: u32) -> Self {
        self.slot = slot;
        self
    }

    /// Whether the flag is set.
    #[must_use]
    pub fn has(&self, flag: Flag) -> bool {
        self.word[1] & (u32::from(flag.0) << 24) != 0
    }

    /// The app, meaningful with [`Flag::MACHINE`].
    #[must_use]
    pub fn app(&self) -> App {
        self.app
    }

    /// The machine, meaningful with [`Flag::MACHINE`].
    #[must_use]
    pub fn machine(&self) -> Machine {
        let [a, b, c, d] = self.word[0].to_le_bytes();
        let [e, f, g, _] = self.word[1].to_le_bytes();
        Machine(u64::from_le_bytes([a, b, c, d, e, f, g, 0]))
    }

    /// The key, if there is one.
    #[must_use]
    pub fn key(&self) -> Option<[u8; 16]> {
        self.has(Flag::KEY).then_some(self.key)
    }

    /// The environment's number in this process.
    #[must_use]
    pub fn slot(&self) -> u32 {
        self.slot
    }
}

/// Never shows the key.
impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("app", &self.app)
            .field("machine", &self.machine())
            .field("flags", &format_args!("{:08b}", self.word[1] >> 24))
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

/// A machine's id at Fly: 14 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Machine(u64);

impl Machine {
    /// Digits of an id.
    pub const DIGITS: usize = 14;

    /// Reads an id; `None` if it is not exactly 14 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(id: &[u8]) -> Option<Self> {
        if id.len() != Self::DIGITS {
            return None;
        }
        let mut number = 0;
        for byte in id {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                _ => return None,
            };
            number = number << 4 | u64::from(digit);
        }
        Some(Self(number))
    }

    /// The id's seven bytes, of two digits each.
    #[must_use]
    pub fn bytes(self) -> [u8; Self::DIGITS / 2] {
        let [_, a, b, c, d, e, f, g] = self.0.to_be_bytes();
        [a, b, c, d, e, f, g]
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:014x}", self.0)
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// All routes. Readers take no lock.
#[derive(Debug, Default)]
pub struct Table {
    routes: papaya::HashMap<Label, Route>,
    loaded: AtomicBool,
    synced: AtomicBool,
}

impl Table {
    /// An empty table that is not ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The route of a label.
    #[must_use]
    pub fn get(&self, label: &Label) -> Option<Route> {
        self.routes.pin().get(label).copied()
    }

    /// How many labels there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Whether requests may be sent here: it was filled once, from the source or from the copy on disk.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.synced() || self.loaded.load(Ordering::Acquire)
    }

    /// Whether every object of the source was seen once, so that an absent label is an unknown one.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    pub(super) fn set_synced(&self) {
        self.synced.store(true, Ordering::Release);
    }

    pub(super) fn set_loaded(&self) {
        self.loaded.store(true, Ordering::Release);
    }

    pub(crate) fn insert(&self, label: Label, route: Route) {
        self.routes.pin().insert(label, route);
    }

    pub(super) fn remove(&self, label: &Label) {
        self.routes.pin().remove(label);
    }

    pub(super) fn labels(&self) -> Vec<Label> {
        self.routes.pin().keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_72_bytes() {
        assert_eq!(size_of::<(Label, Route)>(), 72);
    }

    #[test]
    fn machine_flags_and_key_do_not_disturb_each_other() {
        for id in ["00000000000000", "ffffffffffffff", "3d8d9930c4e1b8"] {
            let machine = Machine::parse(id.as_bytes()).unwrap();
            let route = Route::new(7)
                .with(Flag::UNLISTED, true)
                .to(App::exact("hgr-1").unwrap(), machine)
                .keyed(Some([9; 16]))
                .with(Flag::PUBLIC, true)
                .with(Flag::UNLISTED, false);
            assert_eq!(route.machine().to_string(), id);
            assert!(
                route.has(Flag::PUBLIC) && !route.has(Flag::UNLISTED) && !route.has(Flag::DELETED)
            );
            assert_eq!((route.key(), route.slot()), (Some([9; 16]), 7));
        }
    }

    #[test]
    fn only_14_lower_case_digits_are_a_machine() {
        for bad in ["", "3d8d", "3D8D9930C4E1B8", "3d8d9930c4e1bg", "3d8d9930c4e1b80"] {
            assert_eq!(Machine::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_route_does_not_print_its_key() {
        let text = format!("{:?}", Route::new(0).keyed(Some([0xab; 16])));
        assert!(!text.contains("171") && !text.contains("ab"), "{text}");
    }
}
