"""Flags of a model that compiles fast and learns nothing, for entry points."""

MODEL = (
    "--set=model.decoder.width=16",
    "--set=model.decoder.depth=1",
    "--set=model.vae_hidden=16",
    "--set=model.policy_hidden=16",
    "--set=model.latent_dim=3",
    "--set=model.marginal_latent_dim=3",
)
PLAN = (
    "--set=sas.plan.num_candidates=4",
    "--set=sas.plan.num_reference=2",
    "--set=sas.plan.horizon=3",
    "--set=sas.plan.execute=2",
)
TRAINING = (
    "--set=model.decoder.context=8",
    "--set=train.batch_rows=2",
    "--set=train.row_length=8",
    "--set=train.num_steps=2",
    "--set=train.chunk=2",
    "--set=train.checkpoint_every=2",
    "--set=train.warmup=1",
)
