//! A machine's directory: its files, what a program finds in it, and who owns it. It must never write outside, except
//! through the link to the machine's volume.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::local::{
    driver::{Spec, Status},
    process::procfs::{self, Stat},
};

/// Host ports lie below the range that the kernel takes for outgoing connections, so that a program which starts again
/// finds its port still free.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Host port by port of the machine.
pub(super) type Ports = BTreeMap<u16, u16>;

/// A machine's directory, whether it exists or not.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The directory of machine `id`, whose name must be one.
    pub(super) fn of(machines: &Path, id: &str) -> io::Result<Self> {
        let plain =
            id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if id.is_empty() || !plain {
            return Err(invalid(format!("{id:?} is not a machine's id")));
        }
        Ok(Self { path: machines.join(id) })
    }

    /// An existing directory, as the shim is given it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.canonicalize()? })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the program starts.
    pub(super) fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    /// Makes the directory, for this user only.
    pub(super) fn create(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path)
    }

    /// The variable by which the machine's processes are told from all others, whoever their parent is.
    pub(super) fn marker(&self) -> Vec<u8> {
        let mut marker = b"HANGAR_ROOT=".to_vec();
        marker.extend(self.root().into_os_string().into_encoded_bytes());
        marker
    }

    /// The living shim. A process that merely has its id now does not count.
    pub(super) fn shim(&self) -> Option<Stat> {
        let text = fs::read_to_string(self.path.join("shim.pid")).ok()?;
        let (pid, started) = text.trim_end().split_once(' ')?;
        let started: u64 = started.parse().ok()?;
        procfs::stat(pid.parse().ok()?).filter(|it| it.started == started)
    }

    /// Makes this process the machine's one shim, for as long as the returned file is open; `None` if there is another.
    pub(super) fn claim(&self) -> io::Result<Option<File>> {
        let path = self.path.join("shim.pid");
        let mut file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        // The old status goes first: with a living shim it would be believed.
        remove_if_there(&self.path.join("status.json"))?;
        let me = procfs::stat(std::process::id())
            .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "no /proc here"))?;
        file.set_len(0)?;
        file.write_all(format!("{} {}\n", me.pid, me.started).as_bytes())?;
        Ok(Some(file))
    }

    pub(super) fn status(&self) -> Status {
        // First the shim, then its file: a shim that ends in between has written its last word.
        let alive = self.shim().is_some();
        match read_json(&self.path.join("status.json")) {
            Some(status) if alive => status,
            Some(Status::Exited(exit)) => Status::Exited(exit),
            _ => Status::Absent,
        }
    }

    pub(super) fn write_status(&self, status: &Status) -> io::Result<()> {
        write_json(&self.path.join("status.json"), status)
    }

    pub(super) fn ports(&self) -> Ports {
        read_json(&self.path.join("ports.json")).unwrap_or_default()
    }

    /// Picks a free host port for each of `wanted`: the same ones as before where it can.
    pub(super) fn choose_ports(&self, wanted: &[u16]) -> io::Result<Ports> {
        let machines = self.path.parent().unwrap_or(&self.path);
        // Held while others' choices are read and ours is written: a program listens only later.
        let lock = File::create(machines.join("ports.lock"))?;
        lock.lock()?;
        let mut taken = BTreeSet::new();
        for entry in fs::read_dir(machines)? {
            let other = entry?.path();
            if other != self.path {
                let ports: Option<Ports> = read_json(&other.join("ports.json"));
                taken.extend(ports.unwrap_or_default().into_values());
            }
        }
        let mut chosen = Ports::new();
        for port in wanted {
            let host = self.free_port(*port, &taken)?;
            taken.insert(host);
            chosen.insert(*port, host);
        }
        write_json(&self.path.join("ports.json"), &chosen)?;
        Ok(chosen)
    }

    fn free_port(&self, port: u16, taken: &BTreeSet<u16>) -> io::Result<u16> {
        let seed = blake3::hash(format!("{} {port}", self.path.display()).as_bytes());
        let [first, second, ..] = *seed.as_bytes();
        let offset = usize::from(u16::from_be_bytes([first, second])) % PORTS.len();
        PORTS
            .cycle()
            .skip(offset)
            .take(PORTS.len())
            .filter(|port| !taken.contains(port))
            .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
            .ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "no host port is free"))
    }

    /// Lays out a fresh `root/` with the volume's link and the files of the config.
    pub(super) fn lay_out(&self, spec: &Spec) -> io::Result<()> {
        let root = self.root();
        match fs::remove_dir_all(&root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir(&root)?;
        let mut allowed = vec![root.canonicalize()?];
        if let Some((host, guest)) = &spec.volume {
            let (parent, name) = descend(&allowed, guest)?;
            let host = host.canonicalize().map_err(|error| {
                io::Error::new(error.kind(), format!("volume {}: {error}", host.display()))
            })?;
            symlink(&host, parent.join(name))?;
            allowed.push(host);
        }
        for (guest, content, mode) in &spec.files {
            let (parent, name) = descend(&allowed, guest)?;
            // Renamed into place, so that a link which stands there is replaced and not followed.
            let temporary = parent.join(".hangar-file");
            remove_if_there(&temporary)?;
            OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(&temporary)?
                .write_all(content)?;
            fs::set_permissions(&temporary, Permissions::from_mode(mode & 0o777))?;
            fs::rename(&temporary, parent.join(name))?;
        }
        Ok(())
    }

    /// Removes the directory; a link to a volume goes, what it points to stays.
    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// The real directory that holds guest path `guest`, made where it is missing, and the path's last name. `allowed` are
/// the directories that it may lie in: the machine's root first, then what is linked into it.
fn descend(allowed: &[PathBuf], guest: &str) -> io::Result<(PathBuf, String)> {
    let mut names = Vec::new();
    for part in Path::new(guest).components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(invalid(format!("{guest} must not contain ..")));
            }
        }
    }
    let last = names.pop().ok_or_else(|| invalid(format!("{guest:?} names no file")))?;
    let mut here = allowed.first().cloned().unwrap_or_default();
    for name in names {
        let next = here.join(name);
        match fs::create_dir(&next) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        here = next.canonicalize()?;
        if !allowed.iter().any(|it| here.starts_with(it)) {
            return Err(invalid(format!("{guest} leads out of the machine")));
        }
    }
    Ok((here, last))
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes beside, then renames: a reader sees the old text or the new one.
fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, serde_json::to_vec(value)?)?;
    fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::local::driver::{Exit, Restart};

    fn directory() -> (tempfile::TempDir, Directory) {
        let machines = tempfile::tempdir().unwrap();
        let directory = Directory::of(&machines.path().canonicalize().unwrap(), "m1").unwrap();
        directory.create().unwrap();
        (machines, directory)
    }

    fn spec(volume: Option<(PathBuf, String)>, files: &[(&str, &str)]) -> Spec {
        Spec {
            id: "m1".to_owned(),
            image: "hangar.dev/host".to_owned(),
            argv: vec!["true".to_owned()],
            env: BTreeMap::new(),
            volume,
            files: files
                .iter()
                .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_owned(), 0o640))
                .collect(),
            ports: Vec::new(),
            restart: Restart::No,
            stop_signal: "SIGINT".to_owned(),
            stop_timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn an_id_that_is_a_path_is_refused() {
        for id in ["", "..", "a/b", "/etc"] {
            assert!(Directory::of(Path::new("/tmp"), id).is_err(), "{id}");
        }
    }

    #[test]
    fn files_and_volume_stand_under_the_root_and_the_root_is_fresh_at_each_start() {
        let (_machines, directory) = directory();
        let volume = tempfile::tempdir().unwrap();
        let spec = spec(
            Some((volume.path().to_owned(), "/var/data".to_owned())),
            &[("/etc/app.conf", "a"), ("/var/data/kept", "b")],
        );
        directory.lay_out(&spec).unwrap();
        fs::write(directory.root().join("scratch"), "").unwrap();
        directory.lay_out(&spec).unwrap();
        assert!(!directory.root().join("scratch").exists());
        assert_eq!(fs::read_to_string(directory.root().join("etc/app.conf")).unwrap(), "a");
        assert_eq!(fs::read_to_string(volume.path().join("kept")).unwrap(), "b");
        directory.remove().unwrap();
        assert!(volume.path().join("kept").exists() && !directory.path().exists());
    }

    #[test]
    fn no_file_is_written_outside() {
        let (_machines, directory) = directory();
        let (volume, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(outside.path(), volume.path().join("way-out")).unwrap();
        let volume = Some((volume.path().to_owned(), "/data".to_owned()));
        for guest in ["../x", "/a/../../x", "/", "/data/way-out/x"] {
            assert!(directory.lay_out(&spec(volume.clone(), &[(guest, "")])).is_err(), "{guest}");
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_pid_that_belongs_to_another_process_now_is_no_shim() {
        let (_machines, directory) = directory();
        assert!(directory.claim().unwrap().is_some());
        let me = directory.shim().unwrap();
        let stale = format!("{} {}\n", me.pid, me.started - 1);
        fs::write(directory.path().join("shim.pid"), stale).unwrap();
        assert_eq!(directory.shim(), None);
    }

    #[test]
    fn only_an_exit_outlives_the_shim_and_only_until_the_next_one() {
        let (_machines, directory) = directory();
        directory.write_status(&Status::Running { pid: 1, restarts: 0 }).unwrap();
        assert_eq!(directory.status(), Status::Absent);
        let exit = Exit { code: Some(1), signal: None, requested: false, at_ms: 0, restarts: 0 };
        directory.write_status(&Status::Exited(exit.clone())).unwrap();
        assert_eq!(directory.status(), Status::Exited(exit));
        let claim = directory.claim().unwrap();
        assert!(claim.is_some() && directory.claim().unwrap().is_none());
        assert_eq!(directory.status(), Status::Absent);
    }

    #[test]
    fn machines_never_share_a_host_port_and_keep_theirs() {
        let (machines, one) = directory();
        let two = Directory::of(&machines.path().canonicalize().unwrap(), "m2").unwrap();
        two.create().unwrap();
        let first = one.choose_ports(&[80, 443]).unwrap();
        let claimed: Ports = [(80, *first.get(&80).unwrap())].into();
        write_json(&two.path().join("ports.json"), &claimed).unwrap();
        let second = one.choose_ports(&[80, 443]).unwrap();
        assert_ne!(second.get(&80), first.get(&80));
        two.remove().unwrap();
        assert_eq!(one.choose_ports(&[80, 443]).unwrap(), first);
    }
}
