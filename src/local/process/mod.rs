//! The driver that runs machines as plain processes of the user who runs hangar. It must never be taken for a wall: a
//! program reads the user's files, talks on the user's network and sees the other machines.
//!
//! Each machine is owned by a *shim*, the hangar binary started again as `hangar machine-shim <directory>`, in a session
//! of its own. The shim starts the program, keeps its output, restarts it as the policy says, freezes and ends it, and
//! goes when the program has ended for good. It outlives the process that holds the driver; a later driver over the same
//! root finds it by the machine's directory. The driver keeps nothing in memory.
//!
//! What a machine's directory holds:
//!
//! | name | what |
//! |---|---|
//! | `root/` | working directory of the program; wiped at each start and restart, as a machine's root file system is |
//! | `shim.pid` | process id and start time of the shim, locked while it lives |
//! | `status.json` | the last status, written before anybody is told |
//! | `ports.json` | which host port stands for which port of the machine |
//! | `control` | the shim's socket |
//! | `out.log`, `out.log.1` | the program's output, with times and the starts of its runs |
//! | `shim.log` | what the shim itself had to complain about |
//!
//! **What a program must know.** It listens on `$PORT`, which stands for the first port of its services (`$PORT_8080`
//! for port 8080, and so on), because all machines share the host's ports. Nothing can be mounted: a volume for `/data`
//! is the directory `$HANGAR_VOLUME`, and `$HANGAR_ROOT/data` leads there; a program that insists on `/data` itself
//! cannot run under this driver. Files of the machine's config are under `$HANGAR_ROOT` likewise. Both variables are
//! unset on Fly, so `${HANGAR_ROOT}/data` is right in both places.
//!
//! **Limits.** CPU and memory are not limited. Frozen machines keep their memory in RAM, and lose it with a reboot. When
//! a shim is killed, its program goes on until the machine is started or removed. Linux only: it lives on `/proc`.

mod control;
mod descriptors;
mod directory;
mod driver;
mod exec;
mod follow;
mod images;
mod open;
mod output;
mod procfs;
mod reaper;
mod restart;
mod shim;
mod signal;
mod supervisor;

pub use driver::Process;
pub use shim::machine_shim;
