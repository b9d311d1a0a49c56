//! Labels to routes, in memory laid out for readers that come one by one with cold caches: a small index of entry numbers,
//! and entries that lie side by side. It must never make a reader wait for a writer, nor take a hash for a label.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{
            AtomicU32, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
            fence,
        },
    },
};

use bytemuck::Zeroable;

use crate::router::{
    packed::{Label, Packed},
    table::Route,
};

/// Entries in the first chunk; each further one has twice as many, so that of many the kernel can make huge pages. Memory is
/// taken as entries are written.
const CHUNK_MIN: usize = 1 << 12;
const CHUNKS: usize = 15;
/// Cells of the smallest index; each further level has twice as many.
const CELLS_MIN: usize = 1 << 10;
const LEVELS: usize = 18;

/// What a cell of the index says: nothing yet (zeroed memory says so), a label that is gone, or an entry's number above a tag of the label's hash.
const EMPTY: u32 = 0;
const REMOVED: u32 = u32::MAX;
const NUMBER_BITS: u32 = 26;
const NUMBER_MAX: u32 = 1 << NUMBER_BITS;

const LABEL_WORDS: usize = 7;
const WORDS: usize = LABEL_WORDS + Route::WORDS;

/// A label and its route. In 80 bytes it never lies in three cache lines.
///
/// It is written while no cell leads to it. A reader that was led to it before sees another version, and looks again.
#[derive(Zeroable)]
#[repr(align(16))]
struct Entry {
    /// Odd while it is written.
    version: AtomicU32,
    words: [AtomicU32; WORDS],
}

impl Entry {
    fn write(&self, label: Label, route: Route) {
        let version = self.version.load(Relaxed);
        self.version.store(version.wrapping_add(1), Relaxed);
        fence(Release);
        let words = label.words().into_iter().chain(route.words());
        for (word, value) in self.words.iter().zip(words) {
            word.store(value, Relaxed);
        }
        self.version.store(version.wrapping_add(2), Release);
    }

    /// The version that was read, and what it says; `None` if it is being written, or was meanwhile.
    fn read(&self) -> Option<(u32, Label, Route)> {
        let version = self.version.load(Acquire);
        let mut label = [0; LABEL_WORDS];
        let mut route = [0; Route::WORDS];
        for (value, word) in label.iter_mut().chain(&mut route).zip(&self.words) {
            *value = word.load(Relaxed);
        }
        fence(Acquire);
        let whole = version.is_multiple_of(2) && self.version.load(Relaxed) == version;
        whole.then(|| (version, Packed::of_words(label), Route::of_words(route)))
    }
}

/// Cells whose number is a power of two, and of which a part is empty.
struct Index(Box<[AtomicU32]>);

impl Index {
    fn new(level: usize) -> Self {
        Self(bytemuck::allocation::zeroed_slice_box(CELLS_MIN << level))
    }

    /// The cells in which a label of this hash may be, from the likeliest on. All have a place before the first empty one.
    fn cells(&self, hash: u64) -> impl Iterator<Item = (usize, &AtomicU32)> {
        let mask = self.0.len() - 1;
        let [_, _, _, _, bytes @ ..] = hash.to_be_bytes();
        let start = u32::from_be_bytes(bytes) as usize;
        (0..self.0.len()).map(move |step| {
            let at = (start + step) & mask;
            (at, &self.0[at])
        })
    }

    /// Where a label of this hash goes that has no cell yet.
    fn place(&self, hash: u64) -> Option<&AtomicU32> {
        let free = |cell: &AtomicU32| matches!(cell.load(Relaxed), EMPTY | REMOVED);
        self.cells(hash).map(|(_, cell)| cell).find(|cell| free(cell))
    }

    /// Makes cells empty that nothing is behind any more, from this one backwards.
    fn clear(&self, mut at: usize) -> usize {
        let mask = self.0.len() - 1;
        let mut cleared = 0;
        if self.0[(at + 1) & mask].load(Relaxed) == EMPTY {
            while self.0[at].load(Relaxed) == REMOVED {
                self.0[at].store(EMPTY, Release);
                cleared += 1;
                at = at.wrapping_sub(1) & mask;
            }
        }
        cleared
    }
}

/// What only writers look at.
#[derive(Debug, Default)]
struct Writer {
    /// Entries that no cell leads to.
    free: Vec<u32>,
    /// The first entry that never had a label.
    fresh: u32,
    /// Cells that are not empty.
    used: usize,
}

impl Writer {
    fn fresh(&mut self) -> Option<u32> {
        let number = self.fresh;
        // The last number would make a cell that looks like a removed one.
        (number < NUMBER_MAX - 2).then(|| {
            self.fresh += 1;
            number
        })
    }
}

/// Labels to routes.
pub(super) struct Map {
    hasher: RandomState,
    /// Where readers begin; the levels before it are not looked at any more.
    level: AtomicUsize,
    levels: [OnceLock<Index>; LEVELS],
    chunks: [OnceLock<Box<[Entry]>>; CHUNKS],
    len: AtomicUsize,
    writer: Mutex<Writer>,
}

impl Default for Map {
    fn default() -> Self {
        let map = Self {
            hasher: RandomState::new(),
            level: AtomicUsize::new(0),
            levels: [const { OnceLock::new() }; LEVELS],
            chunks: [const { OnceLock::new() }; CHUNKS],
            len: AtomicUsize::new(0),
            writer: Mutex::default(),
        };
        map.index(0);
        map
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// An entry was given to another label while it was looked at.
struct Moved;

/// A label's place in the index.
struct Found {
    at: usize,
    number: u32,
    route: Route,
}

impl Map {
    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    pub(super) fn get(&self, label: &Label) -> Option<Route> {
        self.find(label).map(|found| found.route)
    }

    pub(super) fn insert(&self, label: Label, route: Route) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let index = self.room(&mut writer);
        // Of 67 million labels one more finds no room; marks of activity end there too.
        let Some(number) = writer.free.pop().or_else(|| writer.fresh()) else { return };
        self.entry(number).write(label, route);
        let hash = self.hasher.hash_one(label);
        let cell = pack(number, hash);
        if let Some(found) = self.find(&label) {
            index.0[found.at].store(cell, Release);
            writer.free.push(found.number);
        } else if let Some(place) = index.place(hash) {
            if place.swap(cell, Release) == EMPTY {
                writer.used += 1;
            }
            self.len.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn remove(&self, label: &Label) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = self.find(label) {
            let index = self.index(self.level.load(Relaxed));
            index.0[found.at].store(REMOVED, Release);
            writer.free.push(found.number);
            writer.used -= index.clear(found.at);
            self.len.fetch_sub(1, Relaxed);
        }
    }

    pub(super) fn labels(&self) -> Vec<Label> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let numbers = self.numbers(self.index(self.level.load(Relaxed)));
        numbers.filter_map(|number| Some(self.entry(number).read()?.1)).collect()
    }

    fn numbers<'a>(&self, index: &'a Index) -> impl Iterator<Item = u32> + 'a {
        index.0.iter().filter_map(|cell| number(cell.load(Relaxed)))
    }

    fn find(&self, label: &Label) -> Option<Found> {
        let hash = self.hasher.hash_one(label);
        loop {
            let level = self.level.load(Acquire);
            match self.find_in(self.index(level), hash, label) {
                // Another index may have taken the place of this one, which is not written to any more.
                Ok(found) if self.level.load(Acquire) == level => return found,
                Ok(_) | Err(Moved) => {}
            }
        }
    }

    fn find_in(&self, index: &Index, hash: u64, label: &Label) -> Result<Option<Found>, Moved> {
        for (at, cell) in index.cells(hash) {
            let value = cell.load(Acquire);
            if value == EMPTY {
                return Ok(None);
            }
            let Some(number) = number(value).filter(|it| pack(*it, hash) == value) else {
                continue;
            };
            let entry = self.entry(number);
            let (version, read, route) = entry.read().ok_or(Moved)?;
            // It was read while this cell led to it, and not when it was free or about to be shown.
            if cell.load(Acquire) != value || entry.version.load(Relaxed) != version {
                return Err(Moved);
            }
            if read == *label {
                return Ok(Some(Found { at, number, route }));
            }
        }
        Ok(None)
    }

    /// The index to write to, with a third of its cells empty.
    fn room(&self, writer: &mut Writer) -> &Index {
        let level = self.level.load(Relaxed);
        let index = self.index(level);
        if writer.used * 3 < index.0.len() * 2 || level + 1 == LEVELS {
            return index;
        }
        let next = self.index(level + 1);
        writer.used = 0;
        for number in self.numbers(index) {
            let Some((_, label, _)) = self.entry(number).read() else { continue };
            let hash = self.hasher.hash_one(label);
            if let Some(cell) = next.place(hash) {
                cell.store(pack(number, hash), Relaxed);
                writer.used += 1;
            }
        }
        self.level.store(level + 1, Release);
        next
    }

    fn index(&self, level: usize) -> &Index {
        self.levels[level].get_or_init(|| Index::new(level))
    }

    fn entry(&self, number: u32) -> &Entry {
        let number = number as usize;
        let chunk = (number / CHUNK_MIN + 1).ilog2() as usize;
        let entries = self.chunks[chunk]
            .get_or_init(|| bytemuck::allocation::zeroed_slice_box(CHUNK_MIN << chunk));
        &entries[number - CHUNK_MIN * ((1 << chunk) - 1)]
    }
}

/// An entry's number as a cell.
fn pack(number: u32, hash: u64) -> u32 {
    // The uppermost bits, which do not choose the cell.
    let [tag, ..] = hash.to_be_bytes();
    u32::from(tag) >> 2 << NUMBER_BITS | (number + 1)
}

fn number(cell: u32) -> Option<u32> {
    match cell {
        EMPTY | REMOVED => None,
        cell => Some((cell & (NUMBER_MAX - 1)) - 1),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::atomic::AtomicBool, thread};

    use proptest::prelude::*;

    use super::*;
    use crate::router::{packed::App, table::Machine};

    fn label(number: u32) -> Label {
        Label::of_name(&format!("env-{number}")).unwrap()
    }

    /// A route whose parts all say the same two numbers.
    fn route(number: u32, turn: u32) -> Route {
        let id = format!("{number:07x}{turn:07x}");
        let app = App::exact(&format!("hgr-{number}-{turn}")).unwrap();
        let key = u128::from(number) << 64 | u128::from(turn);
        let to = Route::new(number).to(app, Machine::parse(id.as_bytes()).unwrap());
        to.keyed(Some(key.to_le_bytes()))
    }

    #[test]
    fn an_entry_has_80_bytes() {
        assert_eq!(size_of::<Entry>(), 80);
    }

    proptest! {
        #[test]
        fn it_holds_what_was_put_last(steps in proptest::collection::vec((0..400_u32, 0..4_u32), 1..6000)) {
            let (map, mut model) = (Map::default(), HashMap::new());
            for (turn, (number, kind)) in (0..).zip(steps) {
                if kind == 0 {
                    map.remove(&label(number));
                    model.remove(&number);
                } else {
                    map.insert(label(number), route(number, turn));
                    model.insert(number, route(number, turn));
                }
                prop_assert_eq!(map.get(&label(number)), model.get(&number).copied());
            }
            prop_assert_eq!(map.len(), model.len());
            for number in 0..400 {
                prop_assert_eq!(map.get(&label(number)), model.get(&number).copied());
            }
            let mut labels = map.labels();
            labels.sort_unstable();
            let mut all: Vec<_> = model.keys().copied().map(label).collect();
            all.sort_unstable();
            prop_assert_eq!(labels, all);
        }
    }

    #[test]
    fn it_grows_and_gives_cells_back() {
        let map = Map::default();
        for number in 0..20_000 {
            map.insert(label(number), route(number, 0));
        }
        let level = map.level.load(Relaxed);
        for number in 0..20_000 {
            assert_eq!(map.get(&label(number)), Some(route(number, 0)));
            map.remove(&label(number));
        }
        let cells = || map.index(level).0.iter().filter(|it| it.load(Relaxed) != EMPTY).count();
        assert_eq!((map.len(), cells(), map.writer.lock().unwrap().used), (0, 0, 0));
        // What comes and goes uses neither another entry nor another index.
        for turn in 0..100_000 {
            map.insert(label(turn), route(turn, turn));
            map.remove(&label(turn));
        }
        assert_eq!(map.level.load(Relaxed), level);
        assert!(map.writer.lock().unwrap().fresh <= 20_001);
    }

    /// Labels below 64 always have a route; others come and go among them, and the index grows and is changed all the while.
    #[test]
    fn a_reader_never_misses_a_label_nor_sees_a_part_of_a_route() {
        const KEPT: u32 = 64;
        const OTHERS: u32 = 3_000;
        let map = Map::default();
        for number in 0..KEPT {
            map.insert(label(number), route(number, 0));
        }
        let ended = AtomicBool::new(false);
        let labels: Vec<_> = (0..KEPT + OTHERS).map(label).collect();
        let read = || {
            let mut latest = vec![0; KEPT as usize];
            while !ended.load(Relaxed) {
                let first = labels[..2].iter().cycle().take(labels.len()).enumerate();
                for (number, label) in
                    labels.iter().enumerate().chain(first.map(|(at, it)| (at % 2, it)))
                {
                    let Some(found) = map.get(label) else {
                        assert!(number >= KEPT as usize, "{number} was missed");
                        continue;
                    };
                    let turn = u32::from_le_bytes(*found.key().unwrap().first_chunk().unwrap());
                    assert_eq!(found, route(found.slot(), turn));
                    if let Some(latest) = latest.get_mut(number) {
                        assert!(*latest <= turn, "{number} went back");
                        *latest = turn;
                    }
                }
            }
        };
        thread::scope(|scope| {
            let readers = [scope.spawn(read), scope.spawn(read)];
            for turn in 1..60_u32 {
                for number in KEPT..KEPT + turn * OTHERS / 60 {
                    map.insert(labels[number as usize], route(number, turn));
                    let kept = number % KEPT;
                    map.insert(labels[kept as usize], route(kept, turn));
                    if number % 3 != turn % 3 {
                        map.remove(&labels[number as usize]);
                    }
                }
            }
            // Two labels that take each other's entries, under the eyes of the readers.
            for turn in 60..400_000 {
                map.insert(labels[0], route(0, turn));
                map.insert(labels[1], route(1, turn));
            }
            ended.store(true, Relaxed);
            for reader in readers {
                reader.join().unwrap();
            }
        });
    }
}
