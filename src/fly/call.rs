//! The calls hangar makes, as a table: method, path, what each does in words, how often and how long it may. It must never
//! hold a call's arguments beyond the names of what it is about, nor do IO.

use std::{fmt, time::Duration};

use http::Method;

use crate::fly::limit::Rate;

/// One kind of call. All of them are constants of this module, so names and templates are safe as metric labels.
#[derive(Debug)]
pub struct Route {
    /// Name of the method of [`crate::fly::Machines`].
    pub name: &'static str,
    /// HTTP method.
    pub method: Method,
    /// Path with `{…}` for each argument.
    pub template: &'static str,
    /// What it does, for people: it stands between "cannot" and the object's name.
    pub does: &'static str,
    /// How often it may be made for one object.
    pub rate: Rate,
    /// How long it may take; `wait_machine` and `exec` add their own timeout.
    pub timeout: Duration,
}

impl Route {
    const fn new(
        name: &'static str,
        method: Method,
        template: &'static str,
        does: &'static str,
    ) -> Self {
        Self { name, method, template, does, rate: Rate::USUAL, timeout: USUAL }
    }

    const fn rate(mut self, rate: Rate) -> Self {
        self.rate = rate;
        self
    }

    const fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether the call has an effect, so that a lost answer leaves its outcome open.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.method != Method::GET
    }

    /// Whether the path names an app.
    #[must_use]
    pub fn names_app(&self) -> bool {
        self.template.contains("{app}")
    }
}

/// A call as errors and observers name it.
#[derive(Debug, Clone)]
pub struct Call {
    /// Which call.
    pub route: &'static Route,
    /// App, unless the call is about an organisation or the platform.
    pub app: Option<String>,
    /// Machine, volume or organisation; for a creation the name wanted.
    pub object: Option<String>,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.route.does)?;
        if let Some(object) = &self.object {
            write!(f, " {object}")?;
            if let Some(app) = &self.app {
                write!(f, " in app {app}")?;
            }
        } else if let Some(app) = &self.app {
            write!(f, " {app}")?;
        }
        Ok(())
    }
}

/// Long enough for an API whose host answers late, short enough to notice that it does not.
const USUAL: Duration = Duration::from_secs(30);
/// `stop` and `destroy` hang while someone else holds a lease, and can be repeated.
const SHORT: Duration = Duration::from_secs(15);
/// A creation places the machine on a host before it answers, and giving up early leaves its outcome open.
const LONG: Duration = Duration::from_secs(60);
/// Added to a timeout that the API itself was given.
const MARGIN: Duration = Duration::from_secs(10);

/// `GET /v1/apps`
pub static LIST_APPS: Route =
    Route::new("list_apps", Method::GET, "/v1/apps", "list apps of organisation");
/// `GET /v1/apps/{app}`
pub static GET_APP: Route = Route::new("get_app", Method::GET, "/v1/apps/{app}", "read app");
/// `POST /v1/apps`
pub static CREATE_APP: Route = Route::new("create_app", Method::POST, "/v1/apps", "create app");
/// `DELETE /v1/apps/{app}`
pub static DELETE_APP: Route =
    Route::new("delete_app", Method::DELETE, "/v1/apps/{app}", "delete app").rate(Rate::APP_DELETE);
/// `POST /v1/apps/{app}/secrets`
pub static SET_SECRETS: Route =
    Route::new("set_secrets", Method::POST, "/v1/apps/{app}/secrets", "set the secrets of app");
/// `GET /v1/apps/{app}/machines`
pub static LIST_MACHINES: Route =
    Route::new("list_machines", Method::GET, "/v1/apps/{app}/machines", "list machines of app");
/// `GET /v1/apps/{app}/machines/{machine}`
pub static GET_MACHINE: Route =
    Route::new("get_machine", Method::GET, "/v1/apps/{app}/machines/{machine}", "read machine")
        .rate(Rate::MACHINE_GET);
/// `POST /v1/apps/{app}/machines`
pub static CREATE_MACHINE: Route =
    Route::new("create_machine", Method::POST, "/v1/apps/{app}/machines", "create machine")
        .within(LONG);
/// `POST /v1/apps/{app}/machines/{machine}`
pub static UPDATE_MACHINE: Route = Route::new(
    "update_machine",
    Method::POST,
    "/v1/apps/{app}/machines/{machine}",
    "update machine",
)
.within(LONG);
/// `POST /v1/apps/{app}/machines/{machine}/start`
pub static START_MACHINE: Route = Route::new(
    "start_machine",
    Method::POST,
    "/v1/apps/{app}/machines/{machine}/start",
    "start machine",
);
/// `POST /v1/apps/{app}/machines/{machine}/stop`
pub static STOP_MACHINE: Route = Route::new(
    "stop_machine",
    Method::POST,
    "/v1/apps/{app}/machines/{machine}/stop",
    "stop machine",
)
.within(SHORT);
/// `POST /v1/apps/{app}/machines/{machine}/suspend`
pub static SUSPEND_MACHINE: Route = Route::new(
    "suspend_machine",
    Method::POST,
    "/v1/apps/{app}/machines/{machine}/suspend",
    "suspend machine",
);
/// `POST /v1/apps/{app}/machines/{machine}/restart`
pub static RESTART_MACHINE: Route = Route::new(
    "restart_machine",
    Method::POST,
    "/v1/apps/{app}/machines/{machine}/restart",
    "restart machine",
);
/// `DELETE /v1/apps/{app}/machines/{machine}`
pub static DESTROY_MACHINE: Route = Route::new(
    "destroy_machine",
    Method::DELETE,
    "/v1/apps/{app}/machines/{machine}",
    "destroy machine",
)
.within(SHORT);
/// `GET /v1/apps/{app}/machines/{machine}/wait`
pub static WAIT_MACHINE: Route = Route::new(
    "wait_machine",
    Method::GET,
    "/v1/apps/{app}/machines/{machine}/wait",
    "wait for machine",
)
.within(MARGIN);
/// `POST /v1/apps/{app}/machines/{machine}/exec`
pub static EXEC: Route = Route::new(
    "exec",
    Method::POST,
    "/v1/apps/{app}/machines/{machine}/exec",
    "run a command in machine",
)
.within(MARGIN);
/// `POST /v1/apps/{app}/machines/{machine}/metadata/{key}`
pub static PUT_METADATA: Route = Route::new(
    "put_metadata",
    Method::POST,
    "/v1/apps/{app}/machines/{machine}/metadata/{key}",
    "write metadata of machine",
);
/// `GET /v1/orgs/{org}/machines`
pub static ORG_MACHINES: Route = Route::new(
    "org_machines",
    Method::GET,
    "/v1/orgs/{org}/machines",
    "list machines of organisation",
);
/// `GET /v1/orgs/{org}/volumes`
pub static ORG_VOLUMES: Route = Route::new(
    "org_volumes",
    Method::GET,
    "/v1/orgs/{org}/volumes",
    "list volumes of organisation",
);
/// `GET /v1/apps/{app}/volumes`
pub static LIST_VOLUMES: Route =
    Route::new("list_volumes", Method::GET, "/v1/apps/{app}/volumes", "list volumes of app");
/// `GET /v1/apps/{app}/volumes/{volume}`
pub static GET_VOLUME: Route =
    Route::new("get_volume", Method::GET, "/v1/apps/{app}/volumes/{volume}", "read volume");
/// `POST /v1/apps/{app}/volumes`
pub static CREATE_VOLUME: Route =
    Route::new("create_volume", Method::POST, "/v1/apps/{app}/volumes", "create volume")
        .within(LONG);
/// `PUT /v1/apps/{app}/volumes/{volume}/extend`
pub static EXTEND_VOLUME: Route = Route::new(
    "extend_volume",
    Method::PUT,
    "/v1/apps/{app}/volumes/{volume}/extend",
    "extend volume",
);
/// `DELETE /v1/apps/{app}/volumes/{volume}`
pub static DELETE_VOLUME: Route =
    Route::new("delete_volume", Method::DELETE, "/v1/apps/{app}/volumes/{volume}", "delete volume");
/// `GET /v1/apps/{app}/volumes/{volume}/snapshots`
pub static SNAPSHOTS: Route = Route::new(
    "snapshots",
    Method::GET,
    "/v1/apps/{app}/volumes/{volume}/snapshots",
    "list snapshots of volume",
);
/// `POST /v1/apps/{app}/volumes/{volume}/snapshots`
pub static CREATE_SNAPSHOT: Route = Route::new(
    "create_snapshot",
    Method::POST,
    "/v1/apps/{app}/volumes/{volume}/snapshots",
    "take a snapshot of volume",
);
/// `GET /v1/platform/regions`
pub static REGIONS: Route =
    Route::new("regions", Method::GET, "/v1/platform/regions", "list regions");

/// All of them.
pub static ALL: [&Route; 27] = [
    &LIST_APPS,
    &GET_APP,
    &CREATE_APP,
    &DELETE_APP,
    &SET_SECRETS,
    &LIST_MACHINES,
    &GET_MACHINE,
    &CREATE_MACHINE,
    &UPDATE_MACHINE,
    &START_MACHINE,
    &STOP_MACHINE,
    &SUSPEND_MACHINE,
    &RESTART_MACHINE,
    &DESTROY_MACHINE,
    &WAIT_MACHINE,
    &EXEC,
    &PUT_METADATA,
    &ORG_MACHINES,
    &ORG_VOLUMES,
    &LIST_VOLUMES,
    &GET_VOLUME,
    &CREATE_VOLUME,
    &EXTEND_VOLUME,
    &DELETE_VOLUME,
    &SNAPSHOTS,
    &CREATE_SNAPSHOT,
    &REGIONS,
];
