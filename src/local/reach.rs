//! Reaching into a machine past the Machines API, which has neither terminals nor streams: for the API server of the same
//! process. It must never reach a machine of another app than the one that is named.

use crate::local::{
    Backend,
    driver::{Error, Interactive, Lines, Process, Session, Stream, Wanted},
    machine::State,
};

impl Backend {
    fn must_be_of(&self, app: &str, id: &str, may_rest: bool) -> Result<(), Error> {
        let world = self.lock();
        let machine = world.machines.get(id).filter(|it| it.app == app);
        match machine {
            Some(machine) if may_rest || machine.state == State::Started => Ok(()),
            Some(_) | None => Err(Error::NotRunning { id: id.to_owned() }),
        }
    }

    /// Runs a command beside the program of a started machine.
    ///
    /// # Errors
    /// The driver's, `NotRunning` for a machine of another app.
    pub async fn interact(
        &self,
        app: &str,
        id: &str,
        command: &Interactive,
    ) -> Result<Session, Error> {
        self.must_be_of(app, id, false)?;
        self.driver.open(id, command).await
    }

    /// What a machine's program wrote.
    ///
    /// # Errors
    /// As [`Backend::interact`].
    pub async fn output(&self, app: &str, id: &str, wanted: Wanted) -> Result<Lines, Error> {
        self.must_be_of(app, id, true)?;
        self.driver.output(id, wanted).await
    }

    /// Connects to a port of a started machine.
    ///
    /// # Errors
    /// As [`Backend::interact`].
    pub async fn connect(&self, app: &str, id: &str, port: u16) -> Result<Box<dyn Stream>, Error> {
        self.must_be_of(app, id, false)?;
        self.driver.dial(id, port).await
    }

    /// What runs in a started machine.
    ///
    /// # Errors
    /// As [`Backend::interact`].
    pub async fn running_in(&self, app: &str, id: &str) -> Result<Vec<Process>, Error> {
        self.must_be_of(app, id, false)?;
        self.driver.processes(id).await
    }
}
