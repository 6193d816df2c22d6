//! `examples/gitops`: its pipeline over a git repository, with the state in the agent.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::{Agent, Finished, Lab, Terraform, on_path, repository, run, skipped, within};

use crate::module::disk;

/// A repository with the example in it, and what a CI system gives its jobs.
struct Pipeline {
    terraform: Terraform,
    environment: Vec<(&'static str, String)>,
}

impl Pipeline {
    fn new(lab: &mut Lab) -> Result<Self> {
        let terraform = lab.terraform()?.with_mirror()?;
        // It has a versions.tf and a CLI configuration of its own, which are no part of the repository.
        let directory = terraform.directory();
        std::fs::remove_file(directory.join("versions.tf"))?;
        let example = repository().join("examples/gitops");
        for file in ["main.tf", "pipeline.sh", ".gitignore"] {
            std::fs::copy(example.join(file), directory.join(file))?;
        }
        std::fs::write(directory.join(".git-exclude"), "terraform.rc\n.git-exclude\n")?;
        let client = Agent::client(&lab.agent().state_dir(), "ci")?;
        let file = |name: &str| client.join(name).display().to_string();
        let environment = vec![
            ("WEFT_ENDPOINT", format!("https://localhost:{}", lab.agent().port()?)),
            ("WEFT_STATE", "web".to_owned()),
            // Paths and text are both taken.
            ("WEFT_CA_CERT", std::fs::read_to_string(client.join("ca.crt"))?),
            ("WEFT_CLIENT_CERT", file("client.crt")),
            ("WEFT_CLIENT_KEY", file("client.key")),
            ("TF_VAR_image", disk(lab, "disk.raw", 7)?.display().to_string()),
        ];
        let this = Self { terraform, environment };
        this.git(&["init", "-q", "-b", "main"])?;
        this.git(&["config", "core.excludesFile", ".git-exclude"])?;
        this.git(&["config", "user.name", "Story"])?;
        this.git(&["config", "user.email", "story@example.com"])?;
        Ok(this)
    }

    fn run(&self, program: &Path, args: &[&str]) -> Result<Finished> {
        let mut command: Command = self.terraform.program(program);
        command.args(args).envs(self.environment.iter().map(|(name, value)| (name, value)));
        run(command, within() * 2)
    }

    fn git(&self, args: &[&str]) -> Result<String> {
        let git = on_path("git").context("there is no git")?;
        Ok(self.run(&git, args)?.success()?.stdout.trim().to_owned())
    }

    fn step(&self, step: &str) -> Result<Finished> {
        self.run(&PathBuf::from("./pipeline.sh"), &[step])
    }

    /// Changes a file of the repository and commits that.
    fn commit(&self, file: &str, text: &str) -> Result<()> {
        self.terraform.write(file, text)?;
        self.git(&["add", "-A"])?;
        self.git(&["commit", "-q", "-m", "a change"]).map(drop)
    }

    /// What a pull request does: a branch with a change, and a plan of what a merge would be.
    fn propose(&self, branch: &str, machines: &str) -> Result<Finished> {
        self.git(&["checkout", "-q", "-b", branch, "main"])?;
        let text = format!("machines = {{ {machines} }}\n");
        self.commit("machines.auto.tfvars", &text)?;
        self.step("plan")
    }

    fn merge(&self, branch: &str) -> Result<()> {
        self.git(&["checkout", "-q", "main"])?;
        self.git(&["merge", "-q", "--no-ff", "-m", "merge", branch]).map(drop)
    }
}

fn sizes(lab: &Lab) -> Result<Vec<(String, String)>> {
    let instances = lab.weft_json(&["ls"])?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let all = instances.as_array().into_iter().flatten();
    let mut sizes: Vec<_> =
        all.map(|one| (text(&one["name"]), text(&one["instance_type"]))).collect();
    sizes.sort();
    Ok(sizes)
}

fn pair(name: &str, size: &str) -> (String, String) {
    (name.to_owned(), size.to_owned())
}

#[test]
fn a_pipeline_plans_applies_that_plan_alone_and_finds_drift() -> Result<()> {
    if on_path("git").is_none() {
        skipped("there is no git");
        return Ok(());
    }
    let mut lab = Lab::simulated_on_tcp()?;
    let pipeline = Pipeline::new(&mut lab)?;
    pipeline.commit("README.md", "The machines of the story.\n")?;
    let said = pipeline.step("plan")?.failure()?.text();
    ensure!(said.contains("commit it, so that every run has the same provider"), "{said}");
    pipeline.terraform.run(&["init", "-backend=false", "-no-color"])?.success()?;
    let lock = std::fs::read_to_string(pipeline.terraform.directory().join(".terraform.lock.hcl"))?;
    pipeline.commit(".terraform.lock.hcl", &lock)?;

    // A pull request, reviewed by its plan, and merged: exactly that is done.
    let said = pipeline.propose("begin", "web = \"w1.nano\"")?.success()?.stdout;
    ensure!(said.contains("4 to add, 0 to change, 0 to destroy"), "{said}");
    ensure!(lab.count("instances")? == 0, "a plan made something");
    pipeline.merge("begin")?;
    let said = pipeline.step("apply")?.success()?.stdout;
    ensure!(said.contains("4 added, 0 changed, 0 destroyed"), "{said}");
    ensure!(sizes(&lab)? == [pair("web", "w1.nano")], "{:?}", sizes(&lab)?);
    let status = pipeline.git(&["status", "--porcelain"])?;
    ensure!(status.is_empty(), "the pipeline leaves files:\n{status}");
    // The same plan once more is refused: it is gone.
    let said = pipeline.step("apply")?;
    ensure!(said.code() == Some(3), "{}", said.text());

    // Two pull requests at once: the second was planned without the first.
    pipeline.propose("grow", "web = \"w1.micro\"")?.success()?;
    let directory = pipeline.terraform.directory().to_owned();
    let (plan, of_grow) = (directory.join("plan"), directory.join("../plan-of-grow"));
    std::fs::rename(&plan, &of_grow)?;
    let said = pipeline.propose("more", "web = \"w1.nano\", db = \"w1.nano\"")?.success()?.stdout;
    ensure!(said.contains("1 to add, 0 to change, 0 to destroy"), "{said}");
    pipeline.merge("more")?;
    pipeline.step("apply")?.success()?;
    std::fs::rename(&of_grow, &plan)?;
    let said = pipeline.step("apply")?;
    ensure!(said.code() == Some(3) && said.text().contains("something else was merged"));
    ensure!(sizes(&lab)?.len() == 2, "{:?}", sizes(&lab)?);
    // What the script compares aside, Terraform refuses it as well.
    let tree = pipeline.git(&["rev-parse", "HEAD:./"])?;
    std::fs::write(plan.join("tree"), format!("{tree}\n"))?;
    let said = pipeline.step("apply")?.failure()?.text();
    ensure!(said.contains("Saved plan is stale"), "{said}");

    // Somebody changes things by hand.
    let said = pipeline.step("drift")?.success()?.text();
    ensure!(said.contains("is what the configuration says"), "{said}");
    lab.weft(&["stop", "web"])?.success()?;
    lab.weft(&["rm", "db"])?.success()?;
    let said = pipeline.step("drift")?;
    ensure!(said.code() == Some(2), "{}", said.text());
    ensure!(said.stdout.contains("1 to add, 1 to change, 0 to destroy"), "{}", said.stdout);
    pipeline.step("apply")?.success()?;
    ensure!(sizes(&lab)? == [pair("db", "w1.nano"), pair("web", "w1.nano")]);
    pipeline.step("drift")?.success()?;

    // What is in no commit is not planned.
    pipeline.terraform.write("scratch.tf", "")?;
    let said = pipeline.step("plan")?.failure()?.text();
    ensure!(said.contains("changes that are in no commit") && said.contains("scratch.tf"));
    std::fs::remove_file(directory.join("scratch.tf"))?;
    let versions = lab.weft_json(&["state", "versions", "web"])?;
    let by_ci = |version: &serde_json::Value| version["client"] == "ci";
    ensure!(versions.as_array().is_some_and(|all| all.len() >= 3 && all.iter().all(by_ci)));
    lab.close()
}
