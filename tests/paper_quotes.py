"""What the paper says, word for word: Koebler, Kuhn, Thon, Buettner, CVPR 2026. Tables line by line."""

TABLE_1 = (
    "GPT-4o (used)\t2.50\t0.87\t$0.16 \\pm 0.06^*$",
    "GPT-5\t1.25\t1.00\t$0.20 \\pm 0.09^*$",
    "GPT-4o-mini\t0.15\t0.42\t$0.09 \\pm 0.02^*$",
)
TABLE_2 = (
    "PPEPS-WGM\t0.87\t$0.16 \\pm 0.06^*$",
    "SAM\t0.87\t$0.11 \\pm 0.04^*$",
)
SEEDS = "Wilcoxon Signed-Rank Test for the improvement in WGA w.r.t. the original model across 7 seeds"
SAMPLING = (
    "On the knee dataset, this strategy produces an alignment set in which 56% of images contain spurious "
    "features, compared to only 25% under random sampling and",
    "2% when sampling based on high entropy.",
)
STUDY = (
    "The conducted user study includes 18 participants with a data science background and familiarity with "
    "medical imaging. They assess three aspects across 26 questions covering both medical datasets",
    "They agreed with the LVLM-selected clusters in 88% of cases, which is in line with the measured verdict "
    "accuracy of 87% on the entire alignment set.",
    "They agreed with the LVLM’s argumentation in 87% of cases.",
    "Participants conclude that the post-alignment explanations are better aligned with their expectations "
    "in 86% of cases.",
)
OUTCOMES = (
    "Across both experiments, LVLM-VA enables a significant improvement in the worst group accuracy without "
    "diminishing the overall accuracy.",
    "The two step JTT approach enables a slight improvement in WGA for the skin dataset, but does not "
    "consistently improve performance for both datasets.",
    "Subsampling groups (SUBG) improves WGA, even outperforming LVLM-VA on the knee dataset, but "
    "significantly sacrifices overall accuracy",
    "Deep Feature Reweighting (DFR) was not beneficial in either experiment.",
    "LVLM-VA is the only method which increases the WGA whilst maintaining overall accuracy.",
)
SOURCES = {
    *("Sec. 1", "Sec. 3", "Sec. 4.1", "Sec. 4.2", "Sec. 5", "Sec. 5.1", "Sec. 5.2", "Sec. 6"),
    *(f"Fig. {n}" for n in range(1, 10)),
    *("Table 1", "Table 2"),
}
"""What the paper has."""
