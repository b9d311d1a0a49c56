//! The local Machines API over real HTTP, with a driver that starts nothing.
