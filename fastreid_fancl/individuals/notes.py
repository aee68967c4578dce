"""Notes of photographs that programs act on, in the words of photographs.csv."""

NO_ANIMAL = "no animal detected"  # of one without a box
NOT_OURS = "no animal of this project"  # of one on which others say that people, vehicles or other species are
BESIDE = "people, vehicles or other species beside the animal"  # of one that has a box of an animal as well
SEEN = "an animal without a box, by Camtrap DP"  # of one that is compared whole
