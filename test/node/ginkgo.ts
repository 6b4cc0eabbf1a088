// Results of test programs of the Kubernetes projects; Ginkgo runs all of these.

/** The fields of Ginkgo's JSON report that are used here. */
type Report = {
  SpecReports: {
    ContainerHierarchyTexts: string[] | null;
    LeafNodeType: string;
    LeafNodeText: string;
    State: string;
    /** Nanoseconds. */
    RunTime: number;
    Failure?: { Message: string };
    /** The test's output while it ran. */
    CapturedGinkgoWriterOutput?: string;
  }[];
}[];

export interface Result {
  name: string;
  /** `passed`, `failed`, `skipped`, … */
  state: string;
  /** For the evidence: state, time and, for a failure, the reason. */
  said: string;
  /** The end of the test's output. */
  log: string;
}

/**
 * Tests that the focus leaves out are no results. A test that skips itself, with a reason, is a result.
 *
 * @param nameOf returns a test's name from the group that contains it and its own text.
 */
export function resultsOf(json: string, nameOf: (test: { place: string; name: string }) => string): Result[] {
  const [report] = JSON.parse(json) as Report;
  return (report?.SpecReports ?? [])
    .filter(
      ({ LeafNodeType, State, Failure }) =>
        LeafNodeType === 'It' && (State !== 'skipped' || Failure?.Message),
    )
    .map((spec) => {
      const { ContainerHierarchyTexts, LeafNodeText, State, RunTime, Failure } = spec;
      const why = Failure?.Message === undefined ? '' : `: ${Failure.Message.slice(0, 600)}`;
      return {
        name: nameOf({ place: ContainerHierarchyTexts?.at(-1) ?? '', name: LeafNodeText }),
        state: State,
        said: `${State} in ${(RunTime / 1e9).toFixed(1)} s${why}`,
        log: (spec.CapturedGinkgoWriterOutput ?? '').slice(-6000),
      };
    });
}
