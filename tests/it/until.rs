//! Waiting for what a process does in its own time, by looking again and again. It must never wait without an end.

use std::time::Duration;

const LOOK: Duration = Duration::from_millis(50);

/// Waits until there is something, and returns it; what was in its place at the last look is said when it never comes.
pub(crate) async fn until<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let mut last = String::new();
    let looking = async {
        loop {
            match look().await {
                Ok(found) => return found,
                Err(instead) => last = instead,
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(within, looking).await {
        Ok(found) => found,
        Err(_) => panic!("waited {within:?} for {what}; at last: {last}"),
    }
}
