//! A Fly-compatible backend that really runs machines on this computer. It must never know that hangar exists.

pub mod driver;
pub mod fleet;
pub mod front;
pub mod process;
