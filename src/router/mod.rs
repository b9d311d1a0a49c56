//! The data plane: answers a host with the `fly-replay` that sends the request to its environment's machine. It must never
//! call Fly, write an object, or wait for anything on the way to an answer.
//!
//! In reading order: [`head`] what a request asks for, [`table`] what is known (in a `map`), [`decide`] the answer, [`respond`] how it
//! is said, [`serve`] the listener. Off that path: [`feed`] follows a source of objects ([`follow`] the store of this
//! process, [`remote`] a server's watch), [`fact`] reads them, [`index`] joins them into the table, [`saved`] keeps a copy
//! on disk, [`activity`] tells which environments were asked for.

pub mod activity;
pub mod decide;
pub mod fact;
pub mod feed;
pub mod follow;
pub mod head;
pub mod index;
mod map;
pub mod packed;
pub mod page;
pub mod remote;
pub mod respond;
pub mod saved;
pub mod serve;
pub mod table;
