//! `weft_image`: an immutable disk, addressed by its content, and how to boot it.

mod capture;
mod checksum;
mod files;
mod plan;
mod schema;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tfplugin::{
    ApplyContext, ConvertError, DestroyPlanContext, Diagnostic, Diagnostics, IdentitySchema,
    ImportContext, PlanContext, ReadContext, Resource, Schema, ValidateContext, Value, async_trait,
};
use tokio::time::Instant;
use weft_model::{BlobRole, BootMode, Checksum, ImageUrl, InvalidImageUrl, Problem, Reason};
use weft_proto::convert::image_from_wire;
use weft_proto::v1::{self};

use crate::agent::fetch::Fetch;
use crate::agent::unpack::Unpack;
use crate::agent::upload::Uploads;
use crate::agent::{Agent, Connection};
use crate::kind::{self, Kind};
use crate::tags::TagMap;
use crate::{kept, references, tags};
use files::{Digests, Role};

/// Unless `timeouts` says otherwise: a few GiB over a slow line.
const CREATE_TIMEOUT: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(crate) struct Image {
    agent: Arc<Agent>,
    digests: Arc<Digests>,
}

impl Image {
    pub(crate) fn new(agent: Arc<Agent>) -> Self {
        Self { agent, digests: Arc::default() }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    tags: Option<TagMap>,
    source_path: Option<String>,
    source_url: Option<String>,
    source_instance_id: Option<String>,
    source_snapshot_id: Option<String>,
    snapshot_without_reboot: Option<bool>,
    consistency: Option<String>,
    sha256: Option<String>,
    sha512: Option<String>,
    sha256_url: Option<String>,
    mirrors: Option<Vec<String>>,
    kernel: Option<String>,
    kernel_sha256: Option<String>,
    initrd: Option<String>,
    initrd_sha256: Option<String>,
    timeouts: Option<BTreeMap<String, Option<String>>>,
    /// The API does not tell an empty command line from none.
    kernel_cmdline: Option<String>,
}

impl Kind for Image {
    type Wire = v1::Image;
    type Kept = Kept;
    const TYPE: &'static str = "weft_image";
    const NOUN: &'static str = "image";

    fn schema() -> Schema {
        schema::schema()
    }

    /// What comes along with a captured disk cannot be said.
    fn written(mut config: Value) -> Value {
        if capture::is_captured(&config) {
            for name in capture::INHERITED.into_iter().chain(["boot_mode"]) {
                config.set(name, Value::Null);
            }
        }
        config
    }

    fn kept(plan: &Value) -> Result<Kept, ConvertError> {
        Ok(Kept {
            tags: tags::own(plan)?,
            source_path: plan.read("source_path")?,
            source_url: plan.read("source_url")?,
            source_instance_id: plan.read("source_instance_id")?,
            source_snapshot_id: plan.read("source_snapshot_id")?,
            snapshot_without_reboot: plan.read("snapshot_without_reboot")?,
            consistency: plan.read("consistency")?,
            sha256: plan.read("sha256")?,
            sha512: plan.read("sha512")?,
            sha256_url: plan.read("sha256_url")?,
            mirrors: plan.read("mirrors")?,
            kernel: plan.read("kernel")?,
            kernel_sha256: plan.read("kernel_sha256")?,
            initrd: plan.read("initrd")?,
            initrd_sha256: plan.read("initrd_sha256")?,
            timeouts: plan.read("timeouts")?,
            kernel_cmdline: plan.read("kernel_cmdline")?,
        })
    }

    fn state(wire: v1::Image) -> Result<Value, Problem> {
        let object = image_from_wire(wire)?;
        let kept: Kept = kept::decode(&object.client_data);
        let image = object.spec;
        let digest = image.source_digest();
        let kernel = image.content.kernel;
        let cmdline = kernel.as_ref().map(|kernel| kernel.cmdline.clone());
        let cmdline = cmdline.filter(|text| !text.is_empty()).or(kept.kernel_cmdline);
        Ok(Value::object([
            ("id", Value::from(object.id.to_string())),
            ("name", image.name.into()),
            ("source_path", kept.source_path.into()),
            ("source_url", kept.source_url.into()),
            ("source_instance_id", kept.source_instance_id.into()),
            ("source_snapshot_id", kept.source_snapshot_id.into()),
            ("snapshot_without_reboot", kept.snapshot_without_reboot.into()),
            ("consistency", kept.consistency.into()),
            ("sha256", kept.sha256.into()),
            ("sha512", kept.sha512.into()),
            ("sha256_url", kept.sha256_url.into()),
            ("mirrors", kept.mirrors.into()),
            ("kernel", kept.kernel.into()),
            ("kernel_sha256", kept.kernel_sha256.into()),
            ("initrd", kept.initrd.into()),
            ("initrd_sha256", kept.initrd_sha256.into()),
            ("timeouts", kept.timeouts.into()),
            ("kernel_cmdline", cmdline.into()),
            ("boot_mode", image.content.boot_mode.as_str().into()),
            ("architecture", image.architecture.as_str().into()),
            ("default_user", image.default_user.into()),
            ("min_disk_gib", image.min_disk_gib.into()),
            ("min_memory_mib", image.min_memory_mib.into()),
            ("protected", image.protected.into()),
            ("deprecated", image.deprecated.into()),
            ("tags", kept.tags.into()),
            ("tags_all", object.tags.into_map().into()),
            ("digest", digest.to_string().into()),
            ("kernel_digest", kernel.as_ref().map(|k| k.kernel.to_string()).into()),
            ("initrd_digest", kernel.and_then(|k| k.initrd).map(|d| d.to_string()).into()),
            ("virtual_size_bytes", image.content.virtual_size_bytes.into()),
        ]))
    }
}

/// The digests are known by now: from the plan, or from the files.
fn spec(plan: &Value) -> Result<v1::ImageSpec, Diagnostics> {
    let kernel = match plan.read::<Option<String>>("kernel_digest")? {
        Some(kernel_sha256) => Some(v1::Kernel {
            kernel_sha256,
            initrd_sha256: plan.read("initrd_digest")?,
            cmdline: plan.read::<Option<String>>("kernel_cmdline")?.unwrap_or_default(),
        }),
        None => None,
    };
    Ok(v1::ImageSpec {
        name: plan.read("name")?,
        disk_sha256: plan.read("digest")?,
        boot_mode: plan.read("boot_mode")?,
        kernel,
        architecture: plan.read("architecture")?,
        default_user: plan.read("default_user")?,
        min_disk_gib: plan.read("min_disk_gib")?,
        min_memory_mib: plan.read("min_memory_mib")?,
        protected: plan.read("protected")?,
        deprecated: plan.read("deprecated")?,
        captured_from: plan.read(capture::SOURCES[0])?,
    })
}

impl Image {
    /// Has the agent fetch all files; returns the plan with every digest known.
    async fn fetch_files(
        &self,
        connection: &Connection,
        ctx: &ApplyContext,
        deadline: Instant,
    ) -> Result<Value, Diagnostics> {
        let mut plan = ctx.plan.clone();
        for (role, shown) in plan::FILES {
            let Some(text) = ctx.plan.read::<Option<String>>(role.url())? else {
                plan.set(shown, Value::Null);
                continue;
            };
            // The agent's words for the two, in ours.
            let failed = |problem: Problem| {
                let field = match problem.field.as_deref() {
                    Some("sha512") if role == Role::Disk => source::SHA512,
                    Some("sha256" | "sha512") => role.sha256(),
                    _ => role.url(),
                };
                kind::fail::<Self>("create", &problem.at(field), &ctx.config)
            };
            let invalid = |text: String| failed(Problem::new(Reason::InvalidArgument, text));
            let url: ImageUrl =
                text.parse().map_err(|e: InvalidImageUrl| invalid(e.to_string()))?;
            let planned = ctx.plan.get(shown).as_str().map(str::to_owned);
            let fields = |sha256: &str, sha512: &str| {
                Checksum::from_fields(sha256, sha512).map_err(|error| invalid(error.to_string()))
            };
            let given = |name| ctx.plan.get(name).as_str();
            let list = given(checksum::ATTRIBUTE).filter(|_| role == Role::Disk);
            let sha512 = given(source::SHA512).filter(|_| role == Role::Disk);
            let checksum = match (planned, list, sha512) {
                (Some(planned), ..) => fields(&planned, "")?,
                (None, Some(list), _) => {
                    checksum::find(connection, list, &url).await.map_err(|problem| {
                        let problem = problem.at(checksum::ATTRIBUTE);
                        kind::fail::<Self>("create", &problem, &ctx.config)
                    })?
                }
                (None, None, Some(sha512)) => fields("", sha512)?,
                (None, None, None) => fields(&ctx.plan.read::<String>(role.sha256())?, "")?,
            };
            let mirrors = match role {
                Role::Disk => source::mirrors(&ctx.plan),
                Role::Kernel | Role::Initrd => Vec::new(),
            };
            let cancel = &ctx.cancel;
            let role = blob_role(role);
            let fetch = |url| Fetch { connection, cancel, deadline, url, checksum, role };
            let mut fetched = fetch(&url).run().await;
            for mirror in &mirrors {
                match &fetched {
                    // Cancelled, or out of time: another server is no help.
                    Err(problem) if problem.field.is_some() => {
                        tracing::warn!(%mirror, error = %problem, "trying the next mirror");
                        let next = fetch(mirror).run().await;
                        fetched = next.map_err(|next| after(problem, next));
                    }
                    _ => break,
                }
            }
            let digest = fetched.map_err(failed)?;
            plan.set(shown, digest.to_string());
        }
        Ok(with_boot_mode(plan))
    }

    /// Brings all files to the agent; returns the plan with every digest known.
    async fn upload_files(
        &self,
        connection: &Connection,
        ctx: &ApplyContext,
        deadline: Instant,
    ) -> Result<Value, Diagnostics> {
        let failed = |problem: Problem| kind::fail::<Self>("create", &problem, &ctx.config);
        let mut plan = ctx.plan.clone();
        let mut files = Vec::new();
        for (role, shown) in plan::FILES {
            let Some(path) = ctx.plan.read::<Option<String>>(role.attribute())? else {
                plan.set(shown, Value::Null);
                continue;
            };
            let file = plan::inspect(&self.digests, &path, role).await.map_err(failed)?;
            let digest = file.digest.to_string();
            if ctx.plan.get(shown).as_str().is_some_and(|planned| planned != digest) {
                let summary = format!("{path} has changed since it was planned");
                return Err(Diagnostic::error(summary)
                    .cause("its digest is not the planned one any more")
                    .remedy("Run terraform apply again to make a new plan")
                    .at(role.attribute())
                    .into());
            }
            plan.set(shown, digest);
            files.push((role, file));
        }
        let Some((_, first)) = files.first() else { return Ok(with_boot_mode(plan)) };
        let uploads = Uploads::begin(connection, &ctx.cancel, deadline, &first.path);
        let uploads = uploads.await.map_err(failed)?;
        for (role, file) in &files {
            uploads.send(&file.path, file.digest, file.size).await.map_err(
                |problem| match problem.field.is_some() {
                    true => failed(problem),
                    false => failed(problem.at(role.attribute())),
                },
            )?;
        }
        Ok(with_boot_mode(plan))
    }
}

/// The error of a mirror that was tried after `before`.
fn after(before: &Problem, mut next: Problem) -> Problem {
    let tried = match &before.evidence {
        Some(evidence) => format!("{}: {evidence}", before.message),
        None => before.message.clone(),
    };
    next.evidence = Some(match next.evidence {
        Some(evidence) => format!("{evidence}; before that: {tried}"),
        None => format!("before that: {tried}"),
    });
    next
}

/// The boot mode follows from the kernel, which is known by now.
fn with_boot_mode(mut plan: Value) -> Value {
    if plan.get("boot_mode").is_unknown() {
        let direct = plan.get("kernel").is_set();
        let mode = if direct { BootMode::DirectKernel } else { BootMode::Bios };
        plan.set("boot_mode", mode.as_str());
    }
    plan
}

fn blob_role(role: Role) -> BlobRole {
    match role {
        Role::Disk => BlobRole::Disk,
        Role::Kernel => BlobRole::Kernel,
        Role::Initrd => BlobRole::Initrd,
    }
}

#[async_trait]
impl Resource for Image {
    fn type_name(&self) -> &str {
        Self::TYPE
    }

    fn schema(&self) -> Schema {
        <Self as Kind>::schema()
    }

    fn identity(&self) -> Option<IdentitySchema> {
        Some(kind::identity::<Self>())
    }

    async fn validate(&self, ctx: &ValidateContext) -> Diagnostics {
        let config = &ctx.config;
        let mut found = source::validate(config);
        capture::validate_others(config, &mut found);
        let kernel = config.get("kernel");
        match config.get("boot_mode").as_str() {
            Some("direct_kernel") if kernel.is_null() => found.push(
                Diagnostic::error("A kernel is missing")
                    .cause("boot_mode \"direct_kernel\" needs a kernel")
                    .remedy("Set kernel to the path of a bzImage, or boot_mode = \"bios\"")
                    .at("boot_mode"),
            ),
            Some(mode @ ("bios" | "uefi")) if kernel.is_set() => found.push(
                Diagnostic::error("A kernel that is not used")
                    .cause(format!(
                        "with boot_mode \"{mode}\" the disk's own boot loader chooses the kernel"
                    ))
                    .remedy("Remove kernel, or set boot_mode = \"direct_kernel\"")
                    .at("kernel"),
            ),
            _ => {}
        }
        for name in ["initrd", "kernel_cmdline"] {
            if config.get(name).is_set() && kernel.is_null() {
                found.push(
                    Diagnostic::error(format!("{name} without a kernel"))
                        .cause("it goes along with kernel, which is not set")
                        .remedy(format!("Set kernel, or remove {name}"))
                        .at(name),
                );
            }
        }
        found
    }

    async fn modify_plan(&self, ctx: &mut PlanContext) -> Result<(), Diagnostics> {
        let connection = self.agent.connection().ok();
        tags::plan(connection.as_deref().map(|connection| &connection.settings), ctx);
        references::check(&self.agent, ctx).await;
        checksum::plan(self.agent.connection().ok().as_deref(), ctx).await;
        plan::plan(&self.digests, ctx).await?;
        plan::check_protected(ctx);
        Ok(())
    }

    async fn plan_destroy(&self, ctx: &mut DestroyPlanContext) -> Result<(), Diagnostics> {
        match ctx.prior.get("protected").as_bool() {
            Some(true) => Err(plan::is_protected(&ctx.prior, "deleted").into()),
            _ => Ok(()),
        }
    }

    async fn create(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        let connection = kind::connection::<Self>(&self.agent, "create")?;
        let deadline = Instant::now() + ctx.timeout(CREATE_TIMEOUT)?;
        let plan = if capture::is_captured(&ctx.plan) {
            self.capture(&connection, ctx, deadline).await?
        } else if source::is_by_url(&ctx.plan) {
            self.fetch_files(&connection, ctx, deadline).await?
        } else {
            self.upload_files(&connection, ctx, deadline).await?
        };
        let digest: String = plan.read("digest")?;
        let unpack = Unpack { connection: &connection, cancel: &ctx.cancel, deadline, digest };
        unpack.run().await.map_err(|problem| {
            let by_url = source::is_by_url(&ctx.plan);
            let field = if by_url { Role::Disk.url() } else { Role::Disk.attribute() };
            kind::fail::<Self>("create", &problem.at(field), &ctx.config)
        })?;
        let made = kind::create::<Self>(&connection, ctx, &plan, spec(&plan)?).await?;
        ctx.set_state(kind::state::<Self>(made)?);
        Ok(())
    }

    async fn read(&self, ctx: &mut ReadContext) -> Result<(), Diagnostics> {
        kind::read::<Self>(&self.agent, ctx).await
    }

    async fn update(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        kind::change::<Self>(&self.agent, ctx, spec).await
    }

    async fn delete(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        kind::delete::<Self>(&self.agent, ctx).await
    }

    fn configuration(&self, config: Value) -> Value {
        Self::written(config)
    }

    async fn import(&self, ctx: &mut ImportContext) -> Result<(), Diagnostics> {
        kind::import::<Self>(ctx)
    }

    async fn import_by_identity(&self, ctx: &mut ImportContext) -> Result<(), Diagnostics> {
        kind::import::<Self>(ctx)
    }
}
