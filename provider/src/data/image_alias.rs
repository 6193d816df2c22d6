//! `data.weft_image_alias`: where the image that is called `debian/13` is, and what its digest is.

use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostics, Schema, Type, Validator, Value,
    async_trait,
};
use weft_model::{Architecture, Problem};

use crate::agent::Agent;
use crate::catalog::Catalog;
use crate::problem;

#[derive(Debug)]
pub(crate) struct ImageAlias(pub(crate) Arc<Agent>);

const NOUN: &str = "image's alias";

#[async_trait]
impl DataSource for ImageAlias {
    fn type_name(&self) -> &str {
        "weft_image_alias"
    }

    fn schema(&self) -> Schema {
        let computed = |name, text| Attribute::string(name, text).computed();
        Schema::new(
            "Where a distribution's cloud image is and what its digest is, by a short name: \
             `weft_image` takes all of it over. The catalogue is built in, so nothing is asked of any \
             server, and each entry is pinned to one build; `image_catalog` of the provider adds \
             entries or replaces them. See the guide on images by name.",
        )
        .subcategory("Compute")
        .attribute(
            Attribute::string(
                "name",
                "`debian/12`, `debian/13`, `fedora/43`, `ubuntu/22.04`, `ubuntu/24.04`, `ubuntu/26.04`, or one of `image_catalog`.",
            )
            .required(),
        )
        .attribute(
            Attribute::string("architecture", "`x86_64`, which it is unless set, or `aarch64`.")
                .optional_computed()
                .validate(Validator::one_of(Architecture::WORDS.iter().copied())),
        )
        .attribute(computed("url", "For `source_url`."))
        .attribute(
            Attribute::list("mirrors", Type::String, "Of the same name. Unset where there are none.")
                .computed(),
        )
        .attribute(computed("sha256", "Of the same name. Unset where the publisher gives another digest."))
        .attribute(computed("sha512", "Of the same name. Unset where the publisher gives another digest."))
        .attribute(computed("sha256_url", "Of the same name. Unset unless an entry of `image_catalog` has no digest, but this."))
        .attribute(computed("default_user", "Of the same name."))
        .attribute(computed("boot_mode", "Of the same name."))
        .attribute(Attribute::number("min_disk_gib", "Of the same name.").computed())
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let schema = self.schema();
        let failed = |problem: Problem| -> Diagnostics {
            let summary = format!("Cannot read the {NOUN}");
            problem::diagnostic(&summary, &problem, &schema, &ctx.config).into()
        };
        let connection = super::connection(&self.0, NOUN)?;
        let name: String = ctx.config.read("name")?;
        let architecture = match ctx.config.read::<Option<String>>("architecture")? {
            Some(text) => text.parse().map_err(failed)?,
            None => Architecture::X86_64,
        };
        let catalog = Catalog::load(&connection.settings.image_catalog).map_err(failed)?;
        let entry = catalog.find(&name, architecture).map_err(failed)?;
        let mirrors = Some(entry.mirrors.clone()).filter(|mirrors| !mirrors.is_empty());
        let mut answer = ctx.config.clone();
        answer.set("architecture", architecture.as_str());
        answer.set("url", entry.url.clone());
        answer.set("mirrors", mirrors);
        answer.set("sha256", entry.sha256.clone());
        answer.set("sha512", entry.sha512.clone());
        answer.set("sha256_url", entry.sha256_url.clone());
        answer.set("default_user", entry.default_user.clone());
        answer.set("boot_mode", entry.boot_mode().as_str());
        answer.set("min_disk_gib", entry.min_disk_gib);
        Ok(answer)
    }
}
