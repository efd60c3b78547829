"""Learning while acting: interaction, replay and updates in one program."""
