//! kubectl as it watches: what changes while it looks is told, and the watch goes on.

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};

use crate::{
    files,
    kubectl::Kubectl,
    server::{Hangar, PATIENCE},
};

async fn next(lines: &mut Lines<impl tokio::io::AsyncBufRead + Unpin>) -> String {
    match tokio::time::timeout(PATIENCE, lines.next_line()).await {
        Ok(line) => line.unwrap().expect("the watch ended"),
        Err(_) => panic!("nothing was told within {PATIENCE:?}"),
    }
}

#[tokio::test]
async fn a_watch_tells_what_is_there_and_then_what_changes() {
    for kubectl in Kubectl::all() {
        let hangar = Hangar::up().await;
        files::write(hangar.home());
        for line in ["create -f template.yaml", "label template node step=one"] {
            let output = kubectl.run(&hangar, line).await;
            assert_eq!(output.code, 0, "1.{} {line}: {output:?}", kubectl.minor);
        }
        // A list and one object are watched in different ways.
        for (what, before, after) in
            [("templates", "one", "two"), ("template node", "two", "three")]
        {
            let line = format!("get {what} -w -o jsonpath={{.metadata.labels.step}}{{\"\\n\"}}");
            let mut watch = kubectl.spawn(&hangar, &line);
            let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
            assert_eq!(next(&mut lines).await, before, "1.{} {line}", kubectl.minor);
            let change = format!("label template node step={after} --overwrite");
            assert_eq!(kubectl.run(&hangar, &change).await.code, 0);
            // The controller's own changes of the status come between.
            while next(&mut lines).await != after {}
            assert_eq!(watch.try_wait().unwrap(), None, "1.{} {line} ended", kubectl.minor);
        }
    }
}
